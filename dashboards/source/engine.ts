// Engine: how fresh the tables are, what the feeds do, and what it costs. By Prometheus (docs/metrics.md) and by the
// engine's own schema.
//
// Prometheus keeps the label `job` of these metrics, the job of the engine, only with `honor_labels: true`.

import { MappingType, VariableRefresh, type ValueMapping, type VariableModel } from "@grafana/schema";

import { metric, metricNow, prometheus, postgres, rows } from "./data.js";
import { band, dashboard } from "./dashboard.js";
import { field, fields } from "./field.js";
import { blue, fixed, green, grey, orange, red, statusColours, steps, yellow } from "./palette.js";
import { figures, lines, stacked, table } from "./panel.js";

const job: VariableModel = {
    type: "query",
    name: "job",
    label: "Job",
    datasource: postgres,
    query: "SELECT name FROM velib.jobs ORDER BY name",
    refresh: VariableRefresh.onDashboardLoad,
    multi: true,
    includeAll: true,
    current: { text: ["All"], value: ["$__all"] },
};

const process: VariableModel = {
    type: "query",
    name: "process",
    label: "Process",
    description: "Where Prometheus reaches it.",
    datasource: prometheus,
    query: { query: "label_values(velib_generation, instance)", refId: "process" },
    refresh: VariableRefresh.onTimeRangeChanged,
    multi: true,
    includeAll: true,
    current: { text: ["All"], value: ["$__all"] },
};

const ofJob = 'job=~"$job"';
const ofProcess = 'instance=~"$process"';

/** How old a time is that a metric gives, by the clock that the engine goes by. */
const age = (selector: string) => `velib_clock_timestamp_seconds - on (instance) group_right () ${selector}`;

/** Of each view. A job that is finished is never behind. */
const behind = `${age(`velib_view_as_of_timestamp_seconds{${ofJob}}`)} and on (job) velib_job_status{status="running"} == 1`;

/** Live sources that bring something again and again. */
const live = 'on (job, source) velib_source_info{kind=~"gbfs|http"}';

function quantile(share: number, name: string, by: string): string {
    return `histogram_quantile(${share}, sum by (le, ${by}) (rate(${name}_bucket{${ofJob}}[$__rate_interval])))`;
}

const databaseStates: ValueMapping[] = [
    {
        type: MappingType.ValueToText,
        options: { 0: { text: "away", color: red, index: 0 }, 1: { text: "up", color: green, index: 1 } },
    },
];

const now = figures(
    {
        title: "Now",
        description:
            "The cluster as Prometheus saw it last. Behind: the time since the oldest snapshot that a running job shows. Feeds that fail: live sources whose last poll failed.",
        empty: "Prometheus has not seen the engine",
        unit: "short",
        queries: [
            metricNow("sum(velib_ready)", "Processes ready"),
            metricNow("max(velib_expected_processes)", "Processes expected"),
            metricNow("max(velib_generation)", "Generation"),
            metricNow(`max(${behind})`, "Behind"),
            metricNow(`count(velib_failed_polls{${ofJob}} > 0) or vector(0)`, "Feeds that fail"),
            metricNow(`sum(velib_job_status{${ofJob}, status="failed"})`, "Jobs that failed"),
            metricNow(
                `sum(increase(velib_quarantined_rows_total{${ofJob}}[1h])) + sum(increase(velib_quarantined_documents_total{${ofJob}}[1h]))`,
                "Refused in an hour",
            ),
            metricNow("min(velib_database_up)", "Database"),
            metricNow("sum(velib_resident_memory_bytes)", "Memory"),
            metricNow("max(velib_resident_memory_bytes / velib_memory_limit_bytes)", "of what a process may have"),
        ].map((query) => ({ ...query, format: "time_series" as const })),
        fields: [
            field("Behind", { unit: "s", steps: steps(green, [180, orange], [600, red]) }),
            fields(/that fail/, { steps: steps(green, [1, red]) }),
            field("Refused in an hour", { steps: steps("text", [1, orange]) }),
            field("Database", { mappings: databaseStates }),
            field("Memory", { unit: "bytes", decimals: 0 }),
            field("of what a process may have", {
                unit: "percentunit",
                steps: steps("text", [0.7, orange], [0.9, red]),
            }),
        ],
    },
    "series",
);

const jobs = table({
    title: "Jobs",
    description:
        "What each job does, the snapshot that its tables are as of, when that was written, and how many rows its views had to leave out.",
    empty: "No job is installed",
    unit: "short",
    queries: [
        rows(`
SELECT
    j.name,
    j.status,
    f.as_of,
    f.committed_at,
    f.generation,
    j.version,
    (SELECT count(*) FROM velib.views v WHERE v.job = j.name) AS views,
    (SELECT coalesce(sum(e.count), 0) FROM velib.errors e WHERE e.job = j.name) AS errors,
    coalesce(j.status_detail, '') AS why
FROM velib.jobs j
LEFT JOIN velib.frontier f ON f.job = j.name
WHERE j.name IN (\${job:sqlstring})
ORDER BY j.name`),
    ],
    fields: [
        field("name", { label: "Job", width: 140 }),
        field("status", { label: "Status", mappings: statusColours, cell: "coloured", width: 90 }),
        field("as_of", { label: "As of", unit: "dateTimeAsLocal", width: 165 }),
        field("committed_at", { label: "Written", unit: "dateTimeAsLocal", width: 165 }),
        field("generation", { label: "Generation", width: 110 }),
        field("version", { label: "Version", width: 75 }),
        field("views", { label: "Views", width: 65 }),
        field("errors", { label: "Rows left out", steps: steps("text", [1, red]), cell: "coloured", width: 125 }),
        field("why", { label: "Why" }),
    ],
});

const processes = table({
    title: "Processes",
    description:
        "The processes of the cluster by their own word in the database: the one at place 0 leads. A process without a place waits for the next generation.",
    empty: "No process is there",
    unit: "short",
    queries: [
        rows(`
SELECT
    index AS place,
    address,
    workers,
    generation,
    extract(epoch FROM clock_timestamp() - heartbeat) AS silent,
    version
FROM velib.cluster
ORDER BY index NULLS LAST, address`),
    ],
    fields: [
        field("place", { label: "Process", width: 80 }),
        field("address", { label: "Address" }),
        field("workers", { label: "Workers", width: 80 }),
        field("generation", { label: "Generation", width: 110 }),
        field("silent", {
            label: "Last heard of",
            unit: "s",
            decimals: 0,
            steps: steps("text", [15, orange], [60, red]),
            cell: "coloured",
            width: 125,
        }),
        field("version", { label: "Version", width: 90 }),
    ],
});

const freshness = lines({
    title: "Freshness of the tables",
    description:
        "From the time of the snapshot that the tables of a running job show to now. All tables of a job show the same snapshot.",
    empty: "No table has been written",
    unit: "s",
    queries: [metric(`max by (job) (${behind})`, "{{job}}")],
});

const lag = lines({
    title: "Lag of the feeds",
    description:
        "From the time of the last snapshot of a live source that entered to now. It grows to the interval of polls, and beyond where a feed is silent or fails.",
    empty: "No live source is read",
    unit: "s",
    queries: [metric(`${age(`velib_last_snapshot_timestamp_seconds{${ofJob}}`)} and ${live}`, "{{job}} · {{source}}")],
});

const latency = lines({
    title: "From snapshot to commit",
    description:
        "From the arrival of a decoded snapshot to the commit of what it changed: half of them are quicker than the median, one of a hundred slower than the 99th percentile.",
    empty: "No snapshot was committed in this time",
    unit: "s",
    queries: [
        metric(quantile(0.5, "velib_snapshot_to_commit_seconds", "job"), "{{job}} median"),
        metric(quantile(0.99, "velib_snapshot_to_commit_seconds", "job"), "{{job}} 99 %"),
    ],
    fields: [fields(/ 99 %$/, { custom: { lineWidth: 1, lineStyle: { fill: "dash", dash: [6, 4] } } })],
});

const snapshots = lines({
    title: "Snapshots",
    description: "Snapshots that entered, a minute.",
    empty: "No snapshot in this time",
    unit: "opm",
    queries: [
        metric(
            `sum by (job, source) (rate(velib_snapshots_total{${ofJob}}[$__rate_interval])) * 60`,
            "{{job}} · {{source}}",
        ),
    ],
});

const rowsMoved = lines({
    title: "Rows in and out",
    description: "Rows that entered a job, and rows that were changed in its tables, a second.",
    empty: "No row moved in this time",
    unit: "rowsps",
    queries: [
        metric(`sum by (job) (rate(velib_rows_in_total{${ofJob}}[$__rate_interval]))`, "{{job}} in"),
        metric(`sum by (job) (rate(velib_rows_out_total{${ofJob}}[$__rate_interval]))`, "{{job}} out"),
    ],
    fields: [fields(/ in$/, { custom: { lineWidth: 1, lineStyle: { fill: "dash", dash: [6, 4] } } })],
});

const polls = stacked({
    title: "Polls by result",
    description:
        "Polls of live sources, a minute. New and partial brought a snapshot; unchanged brought nothing; failed will be asked again ever more rarely.",
    empty: "No live source is read",
    unit: "opm",
    queries: [metric(`sum by (result) (rate(velib_polls_total{${ofJob}}[$__rate_interval])) * 60`, "{{result}}")],
    fields: [
        field("new", { color: fixed(green) }),
        field("partial", { color: fixed(yellow) }),
        field("unchanged", { color: fixed(grey) }),
        field("failed", { color: fixed(red) }),
    ],
});

const pollDuration = lines({
    title: "Duration of polls",
    description: "From the request to decoded rows, the slowest of a hundred.",
    empty: "No live source was asked in this time",
    unit: "s",
    queries: [metric(quantile(0.99, "velib_poll_duration_seconds", "job, source"), "{{job}} · {{source}}")],
});

const refused = stacked({
    title: "Refused input",
    description: "Rows and whole documents that sources refused, a minute. Below stands why.",
    empty: "Nothing was refused in this time",
    unit: "opm",
    queries: [
        metric(
            `sum by (job, source) (rate(velib_quarantined_rows_total{${ofJob}}[$__rate_interval])) * 60`,
            "{{job}} · {{source}} rows",
        ),
        metric(
            `sum by (job, source) (rate(velib_quarantined_documents_total{${ofJob}}[$__rate_interval])) * 60`,
            "{{job}} · {{source}} documents",
        ),
    ],
});

const transactions = lines({
    title: "Transactions",
    description:
        "How long PostgreSQL takes for the changes of a job, the slowest of a hundred: from encoding to the answer.",
    empty: "Nothing was written in this time",
    unit: "s",
    queries: [metric(quantile(0.99, "velib_transaction_duration_seconds", "job"), "{{job}}")],
});

const transactionRows = lines({
    title: "Rows of a transaction",
    description: "Changed rows of a transaction on average, and tries to commit that failed, a minute.",
    empty: "Nothing was written in this time",
    unit: "short",
    queries: [
        metric(
            `sum by (job) (rate(velib_transaction_rows_sum{${ofJob}}[$__rate_interval])) / sum by (job) (rate(velib_transaction_rows_count{${ofJob}}[$__rate_interval]))`,
            "{{job}}",
        ),
        metric(`(sum(rate(velib_transaction_failures_total{${ofJob}}[$__rate_interval])) or vector(0)) * 60`, "failures a minute"),
    ],
    fields: [field("failures a minute", { color: fixed(red), custom: { axisPlacement: "right" } })],
});

const queues = lines({
    title: "Queues",
    description:
        "How full the queues are; at their limit, whoever sends waits. Those of no job in particular are under the name that Prometheus has for the engine.",
    empty: "No job is running",
    unit: "percentunit",
    queries: [metric("max by (queue, job) (velib_queue_items / velib_queue_limit_items)", "{{job}} · {{queue}}")],
    defaults: { min: 0, max: 1 },
});

const memory = lines({
    title: "Memory of each process",
    description: "Resident memory. How much of its container or machine that is, stands at the head.",
    empty: "Prometheus has not seen the engine",
    unit: "bytes",
    queries: [metric(`velib_resident_memory_bytes{${ofProcess}}`, "{{instance}}")],
});

const processors = lines({
    title: "Processors of each process",
    description: "How many processors a process keeps busy.",
    empty: "Prometheus has not seen the engine",
    unit: "short",
    queries: [metric(`rate(velib_cpu_seconds_total{${ofProcess}}[$__rate_interval])`, "{{instance}}")],
});

const workers = lines({
    title: "Workers",
    description:
        "Share of the time in which each worker computed. One far above the others has more than its share of the rows.",
    empty: "No worker is there",
    unit: "percentunit",
    queries: [
        metric(
            `sum by (worker) (rate(velib_worker_busy_seconds_total{${ofProcess}}[$__rate_interval]))`,
            "worker {{worker}}",
        ),
    ],
});

const restarts = lines({
    title: "Generations",
    description:
        "The generation of the cluster: it grows by one each time the cluster begins anew, because a process was started or lost.",
    empty: "Prometheus has not seen the engine",
    unit: "none",
    queries: [metric("max(velib_generation)", "generation"), metric("sum(velib_ready)", "processes ready")],
    defaults: { decimals: 0 },
    fields: [field("processes ready", { color: fixed(green) }), field("generation", { color: fixed(blue) })],
});

const operators = lines(
    {
        title: "Busiest operators",
        description:
            "Seconds of computing a second, over all processes: the ten operators with most, by their names in velib explain.",
        empty: "No job is running",
        unit: "percentunit",
        queries: [
            metric(
                `topk(10, sum by (job, operator) (rate(velib_operator_busy_seconds_total{${ofJob}}[$__rate_interval])))`,
                "{{job}} · {{operator}}",
            ),
        ],
    },
    {},
    "right",
);

const arrangements = lines(
    {
        title: "Largest arrangements",
        description:
            "Memory of what operators hold, over all processes: the ten arrangements with most, by their names in velib explain.",
        empty: "No job holds anything",
        unit: "bytes",
        queries: [
            metric(
                `topk(10, sum by (job, arrangement) (velib_arrangement_bytes{${ofJob}}))`,
                "{{job}} · {{arrangement}}",
            ),
        ],
    },
    {},
    "right",
);

const held = lines({
    title: "Rows held",
    description:
        "Updates and groups that the operators of a job hold, over all processes. It levels off where the job is bounded.",
    empty: "No job holds anything",
    unit: "short",
    queries: [metric(`sum by (job) (velib_arrangement_records{${ofJob}})`, "{{job}}")],
});

const errors = table({
    title: "Rows that views had to leave out",
    description: "An entry stands for as long as its cause does.",
    empty: "None",
    unit: "short",
    queries: [
        rows(`
SELECT job, view, count, message
FROM velib.errors
WHERE job IN (\${job:sqlstring})
ORDER BY count DESC, job, view, message
LIMIT 100`),
    ],
    fields: [
        field("job", { label: "Job", width: 110 }),
        field("view", { label: "View", width: 140 }),
        field("count", { label: "Rows", width: 80 }),
        field("message", { label: "Why" }),
    ],
});

const quarantine = table({
    title: "Refused input",
    description: "The newest 100 rows and documents that sources refused, with the reason and how they begin.",
    empty: "Nothing was refused",
    unit: "short",
    queries: [
        rows(`
SELECT at, job, source, CASE relation WHEN '' THEN 'document' ELSE relation END AS what, reason, sample
FROM velib.quarantine
WHERE job IN (\${job:sqlstring})
ORDER BY id DESC
LIMIT 100`),
    ],
    fields: [
        field("at", { label: "Snapshot", unit: "dateTimeAsLocal", width: 165 }),
        field("job", { label: "Job", width: 90 }),
        field("source", { label: "Source", width: 80 }),
        field("what", { label: "What", width: 95 }),
        field("reason", { label: "Why", width: 300 }),
        field("sample", { label: "It begins" }),
    ],
});

export const engine = dashboard({
    uid: "velib-engine",
    title: "Engine",
    description: "How fresh the tables are, what the feeds do, and what it costs.",
    from: "now-1h",
    refresh: "10s",
    variables: [job, process],
    bands: [
        band(4, [24, now]),
        band(7, [15, jobs], [9, processes]),
        { heading: "Freshness" },
        band(8, [8, freshness], [8, lag], [8, latency]),
        { heading: "Feeds" },
        band(8, [6, snapshots], [6, polls], [6, pollDuration], [6, refused]),
        { heading: "Tables" },
        band(8, [6, rowsMoved], [6, transactions], [6, transactionRows], [6, queues]),
        { heading: "Processes" },
        band(8, [6, memory], [6, processors], [6, workers], [6, restarts]),
        { heading: "What the jobs cost" },
        band(10, [9, operators], [9, arrangements], [6, held]),
        { heading: "What went wrong" },
        band(10, [9, errors], [15, quarantine]),
    ],
});
