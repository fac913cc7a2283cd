// Asks PostgreSQL as Grafana's data source does, and makes frames of the answers.

import pg from "pg";

import type { Field, Frame, Value } from "./frame.js";

/** What PostgreSQL's types become; others are text. */
const kinds: Record<number, Field["type"]> = {
    16: "boolean",
    20: "number",
    21: "number",
    23: "number",
    700: "number",
    701: "number",
    1700: "number",
    1114: "time",
    1184: "time",
};

/** A sequential scan of a table with more rows than this is a query that should have used an index. */
const largeTable = 20_000;

export class Postgres {
    private constructor(private readonly client: pg.Client) {}

    static async connect(url: string): Promise<Postgres> {
        const client = new pg.Client({ connectionString: url });
        await client.connect();
        await client.query("SET default_transaction_read_only = on");
        await client.query("SET statement_timeout = '30s'");
        return new Postgres(client);
    }

    async table(text: string): Promise<Frame> {
        const answer = await this.client.query({ text, rowMode: "array" });
        const fields = answer.fields.map(({ name, dataTypeID }, column): Field => {
            const type = kinds[dataTypeID] ?? "string";
            return { name, type, values: answer.rows.map((row: unknown[]) => value(row[column], type)) };
        });
        return { fields };
    }

    /** By the column `time`; with a column `metric`, a series for each of its values. */
    async series(text: string): Promise<Frame[]> {
        const frame = await this.table(text);
        const time = frame.fields.find((field) => field.name === "time");
        if (!time) throw new Error("a series needs a column time");
        if (time.type === "number") {
            time.values = time.values.map((seconds) => (seconds === null ? null : Number(seconds) * 1000));
            time.type = "time";
        }
        const late = time.values.findIndex((at, row) => row > 0 && Number(at) < Number(time.values[row - 1]));
        if (late >= 0) throw new Error(`the series is not in the order of time: row ${late}`);
        const metric = frame.fields.find((field) => field.type === "string");
        const values = frame.fields.filter((field) => field !== time && field !== metric);
        if (!metric) return values.map((field) => ({ fields: [time, field] }));
        if (metric.name !== "metric" || values.length !== 1) throw new Error("series are time, metric and one value");
        const series = new Map<string, Frame>();
        metric.values.forEach((name, row) => {
            const key = String(name);
            let one = series.get(key);
            if (!one) {
                one = {
                    fields: [
                        { name: "time", type: "time", values: [] },
                        { name: key, type: "number", values: [] },
                    ],
                };
                series.set(key, one);
            }
            one.fields[0]?.values.push(time.values[row] ?? null);
            one.fields[1]?.values.push(values[0]?.values[row] ?? null);
        });
        return [...series.values()];
    }

    /** The large tables that the plan of a query reads from end to end. */
    async scans(text: string): Promise<string[]> {
        const answer = await this.client.query(`EXPLAIN (FORMAT JSON) ${text}`);
        const found: string[] = [];
        const visit = async (node: Record<string, unknown>): Promise<void> => {
            if (node["Node Type"] === "Seq Scan") found.push(String(node["Relation Name"]));
            for (const child of (node["Plans"] as Record<string, unknown>[] | undefined) ?? []) await visit(child);
        };
        await visit(answer.rows[0]["QUERY PLAN"][0]["Plan"]);
        const large = await this.client.query(
            "SELECT DISTINCT relname FROM pg_class WHERE relname = ANY($1) AND relkind = 'r' AND reltuples > $2",
            [found, largeTable],
        );
        return large.rows.map((row) => row.relname as string);
    }

    async end(): Promise<void> {
        await this.client.end();
    }
}

function value(raw: unknown, type: Field["type"]): Value {
    if (raw === null || raw === undefined) return null;
    if (type === "time") return (raw as Date).getTime();
    if (type === "number") return Number(raw);
    if (type === "boolean") return Boolean(raw);
    return String(raw);
}
