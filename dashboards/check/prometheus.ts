// Asks Prometheus as Grafana's data source does, and makes frames of the answers.

import type { Frame } from "./frame.js";

interface Series {
    metric: Record<string, string>;
    value?: [number, string];
    values?: [number, string][];
}

export class Prometheus {
    constructor(private readonly url: string) {}

    /** Over a time, a point every `step` seconds. */
    async range(expr: string, legend: string, from: Date, to: Date, step: number): Promise<Frame[]> {
        const times = { start: seconds(from), end: seconds(to), step: String(step) };
        const answer = await this.ask("query_range", { query: expr, ...times });
        return answer.map((series) => frame(series, series.values ?? [], legend));
    }

    async instant(expr: string, legend: string, at: Date): Promise<Frame[]> {
        const answer = await this.ask("query", { query: expr, time: seconds(at) });
        return answer.map((series) => frame(series, series.value ? [series.value] : [], legend));
    }

    /** `label_values(metric, label)` of a variable. */
    async labelValues(metric: string, label: string): Promise<string[]> {
        const query = new URLSearchParams({ "match[]": metric });
        return (await this.get(`label/${label}/values?${query}`)) as string[];
    }

    private async ask(path: string, query: Record<string, string>): Promise<Series[]> {
        const data = (await this.get(`${path}?${new URLSearchParams(query)}`)) as { result: Series[] };
        return data.result;
    }

    private async get(path: string): Promise<unknown> {
        const answer = await fetch(`${this.url}/api/v1/${path}`).catch((error: Error) => {
            throw new Error(`Prometheus at ${this.url} is not reached: ${error.cause ?? error.message}`);
        });
        const body = (await answer.json()) as { status: string; error?: string; data: unknown };
        if (body.status !== "success") throw new Error(`Prometheus: ${body.error}`);
        return body.data;
    }
}

function frame(series: Series, points: [number, string][], legend: string): Frame {
    const name = legend.replace(/\{\{\s*(\w+)\s*\}\}/g, (_all, label: string) => series.metric[label] ?? "").trim();
    const numbers = points.map(([, text]) => (text === "NaN" ? null : Number(text)));
    return {
        fields: [
            { name: "time", type: "time", values: points.map(([at]) => at * 1000) },
            { name, type: "number", labels: series.metric, values: numbers },
        ],
    };
}

function seconds(time: Date): string {
    return String(time.getTime() / 1000);
}
