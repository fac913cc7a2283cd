// Where the data comes from: the two data sources of provisioning/datasources, and queries to them.

/** The tables of the jobs and the engine's own schema `velib`, read as a role that may only read. */
export const postgres = { type: "grafana-postgresql-datasource", uid: "velib-postgresql" };

/** What Prometheus has scraped from the processes of the engine. */
export const prometheus = { type: "prometheus", uid: "velib-prometheus" };

export type DataSource = typeof postgres;

/**
 * A query as Grafana keeps it. A `type`, not an `interface`: the schema wants it to be a record of anything.
 */
export type Query = {
    refId: string;
    datasource: DataSource;
    /** PostgreSQL: the text of the query. */
    rawSql?: string;
    /** Prometheus: the same. */
    expr?: string;
    /** Rows as they are, or series: by the column `time`, one for each value of the column `metric`. */
    format?: "table" | "time_series";
    [setting: string]: unknown;
};

/** Names what a panel asks: A, B, C, … */
export function named(queries: Omit<Query, "refId">[]): Query[] {
    return queries.map((query, place) => ({ refId: String.fromCharCode(65 + place), ...query }) as Query);
}

/** Rows of PostgreSQL. */
export function rows(text: string): Omit<Query, "refId"> {
    return { datasource: postgres, editorMode: "code", rawQuery: true, format: "table", rawSql: text.trim() };
}

/** Series of PostgreSQL: the query has a column `time`, and is ordered by it. */
export function series(text: string): Omit<Query, "refId"> {
    return { ...rows(text), format: "time_series" };
}

/** Series of Prometheus over the time range; `legend` names each by its labels. */
export function metric(expr: string, legend: string): Omit<Query, "refId"> {
    return { datasource: prometheus, editorMode: "code", expr, legendFormat: legend, range: true, instant: false };
}

/** What Prometheus says at the end of the time range, as a table with a column for each label. */
export function metricNow(expr: string, legend = "__auto"): Omit<Query, "refId"> {
    return {
        datasource: prometheus,
        editorMode: "code",
        expr,
        legendFormat: legend,
        range: false,
        instant: true,
        format: "table",
    };
}
