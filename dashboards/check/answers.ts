// Asks everything that a dashboard asks, as Grafana would when it is opened: first what can be chosen, then what its
// panels show.

import { readFileSync } from "node:fs";

import type { Dashboard, Panel, VariableModel } from "@grafana/schema";

import { postgres, prometheus, type Query } from "../source/data.js";
import { rowCount, type Frame } from "./frame.js";
import { expandProm, expandSql, expandTitle, type Choice, type View } from "./macros.js";
import { Postgres } from "./postgres.js";
import { Prometheus } from "./prometheus.js";

/** As many points as Grafana asks for in a panel of middling width. */
const points = 300;
const niceSteps = [1, 5, 10, 15, 30, 60, 300, 600, 900, 1800, 3600, 10800, 21600, 43200, 86400];

export interface Sources {
    postgres: Postgres;
    /** None: panels that ask it have no answer. */
    prometheus?: Prometheus;
    /** Now, by the clock of the feed: recorded and simulated ones have their own. */
    feedNow: Date;
    /** How far back Prometheus is asked, in minutes, where that is less than the dashboard says. */
    minutes?: number;
}

/** What came of a query. */
export interface Answer {
    query: Query;
    frames: Frame[];
    /** Large tables that were read from end to end. */
    scans: string[];
    error?: string;
}

/** A panel with its answers, and its title as it is read. */
export interface Answered {
    panel: Panel;
    title: string;
    answers: Answer[];
    from: Date;
    to: Date;
}

/** Connects, and looks what time it is for the feed. */
export async function open(postgresUrl: string, prometheusUrl?: string, minutes?: number): Promise<Sources> {
    const postgres = await Postgres.connect(postgresUrl);
    const newest = await postgres.table("SELECT max(as_of) FROM velib.frontier WHERE job IN ('occupancy', 'critical', 'trends')");
    const feedNow = new Date(Number(newest.fields[0]?.values[0] ?? Date.now()));
    return { postgres, prometheus: prometheusUrl ? new Prometheus(prometheusUrl) : undefined, feedNow, minutes };
}

/** The panels of a dashboard in order, headings left out. */
export async function ask(dashboard: Dashboard, sources: Sources): Promise<Answered[]> {
    const variables = await choose(dashboard, sources);
    const answered: Answered[] = [];
    for (const panel of dashboard.panels ?? []) {
        if (panel.type === "row") continue;
        answered.push(await askPanel(panel as Panel, dashboard, variables, sources));
    }
    return answered;
}

async function askPanel(
    panel: Panel,
    dashboard: Dashboard,
    variables: Map<string, Choice>,
    sources: Sources,
): Promise<Answered> {
    const ofFeed = look(panel, dashboard, variables, sources.feedNow);
    const ofWorld = look(panel, dashboard, variables, new Date(), sources.minutes);
    const view = panel.datasource?.uid === prometheus.uid ? ofWorld : ofFeed;
    const answers: Answer[] = [];
    for (const query of (panel.targets ?? []) as Query[]) {
        const answer: Answer = { query, frames: [], scans: [] };
        try {
            if (query.datasource.uid === postgres.uid) await askPostgres(answer, sources.postgres, ofFeed);
            else if (sources.prometheus) await askPrometheus(answer, sources.prometheus, ofWorld);
        } catch (error) {
            answer.error = error instanceof Error ? error.message : String(error);
        }
        answers.push(answer);
    }
    return { panel, title: expandTitle(panel.title ?? "", view), answers, from: view.from, to: view.to };
}

async function askPostgres(answer: Answer, source: Postgres, view: View): Promise<void> {
    const text = expandSql(answer.query.rawSql ?? "", view);
    answer.frames = answer.query.format === "time_series" ? await source.series(text) : [await source.table(text)];
    answer.scans = await source.scans(text);
}

async function askPrometheus(answer: Answer, source: Prometheus, view: View): Promise<void> {
    const { expr = "", legendFormat } = answer.query;
    const [text, legend] = [expandProm(expr, view), String(legendFormat ?? "")];
    answer.frames = answer.query["instant"]
        ? await source.instant(text, legend, view.to)
        : await source.range(text, legend, view.from, view.to, view.interval);
}

/** The time range that a panel opens with, when it is `now`. */
function look(panel: Panel, dashboard: Dashboard, variables: Map<string, Choice>, now: Date, minutes = Infinity): View {
    const [, count, unit] = /^(?:now-)?(\d+)([mhd])$/.exec(panel.timeFrom ?? dashboard.time?.from ?? "") ?? [];
    const length = Math.min(Number(count) * { m: 60, h: 3600, d: 86400 }[unit as "m" | "h" | "d"], minutes * 60);
    const least = /^(\d+)([smh])$/.exec(panel.interval ?? "") ?? ["", String(scrapeInterval), "s"];
    const shortest = Number(least[1]) * { s: 1, m: 60, h: 3600 }[least[2] as "s" | "m" | "h"];
    const interval = Math.max(shortest, niceSteps.find((step) => step >= length / points) ?? 86400);
    return { from: new Date(now.getTime() - length * 1000), to: now, interval, variables, scrapeInterval };
}

/** As often as Prometheus scrapes, in seconds: what Grafana is told. */
const scrapeInterval = Number(
    /timeInterval: (\d+)s/.exec(readFileSync("provisioning/datasources/velib.yaml", "utf8"))?.[1],
);

/** What is chosen when a dashboard is opened: everything where that is the default, else the first. */
async function choose(dashboard: Dashboard, sources: Sources): Promise<Map<string, Choice>> {
    const variables = new Map<string, Choice>();
    const now = sources.feedNow;
    for (const variable of dashboard.templating?.list ?? []) {
        const options = await offered(variable, sources, look({ type: "" }, dashboard, variables, now));
        const all = variable.includeAll && [variable.current?.value].flat().includes("$__all");
        const preset = options.texts.indexOf(String(variable.current?.text));
        const first = Math.max(preset, 0);
        const slice = all
            ? options
            : { texts: options.texts.slice(first, first + 1), values: options.values.slice(first, first + 1) };
        if (slice.values.length === 0 && (variable.datasource?.uid !== prometheus.uid || sources.prometheus)) {
            throw new Error(`${dashboard.title}: the variable ${variable.name} has nothing to choose`);
        }
        variables.set(variable.name, all ? { ...slice, texts: ["All"] } : slice);
    }
    return variables;
}

async function offered(variable: VariableModel, sources: Sources, view: View): Promise<Choice> {
    if (variable.type === "custom") {
        const values = String(variable.query).split(",");
        return { texts: values, values };
    }
    if (variable.datasource?.uid === prometheus.uid) {
        const { query } = variable.query as { query: string };
        const [, metric = "", label = ""] = /^label_values\((\w+), (\w+)\)$/.exec(query) ?? [];
        const values = (await sources.prometheus?.labelValues(metric, label)) ?? [];
        return { texts: values, values };
    }
    const frame = await sources.postgres.table(expandSql(String(variable.query), view));
    const column = (name: string) =>
        (frame.fields.find((field) => field.name === name) ?? frame.fields[0])?.values.map(String) ?? [];
    if (rowCount(frame) === 0) return { texts: [], values: [] };
    return { texts: column("__text"), values: column("__value") };
}
