// Critical: the alarms that stand, since when, those before, and where it is worst.

import { LineInterpolation, StackingMode } from "@grafana/schema";

import { rows, series } from "./data.js";
import { band, dashboard } from "./dashboard.js";
import { field, fields } from "./field.js";
import { blue, fixed, lackSteps, orange, red, stateColours, steps } from "./palette.js";
import { bars, figures, lines, map, stacked, table } from "./panel.js";
import { toStation } from "./stations.js";
import { area, critical, inArea, occupancy } from "./variables.js";

/** How long an alarm may stand, in seconds. */
const lasting = steps("text", [30 * 60, orange], [2 * 3600, red]);

/** The time of the snapshot that the alarms are as of: the end of what still stands. */
const asOf = "(SELECT as_of FROM velib.frontier WHERE job = '${critical}')";

/** Alarms of the chosen areas that stood at some time of the range; `ended` is null where they still stand. */
const alarms = `
alarms AS (
    SELECT l.station_id, l.kind, l.began, l.ended
    FROM \${critical}.critical_log l
    JOIN \${occupancy}.stations s ON s.station_id = l.station_id
    WHERE l.ended >= $__timeFrom() AND l.began <= $__timeTo() AND ${inArea}
    UNION ALL
    SELECT station_id, kind, since, NULL
    FROM \${critical}.critical_now
    WHERE since <= $__timeTo() AND ${inArea}
)`;

const now = figures({
    title: "Now",
    description:
        "Alarms that stand in the chosen areas. One is raised when a station has run out of bikes or docks, or nearly, for five minutes, and cleared when there are some more: see the job.",
    empty: "No alarm stands",
    unit: "short",
    queries: [
        rows(`
SELECT
    count(*) FILTER (WHERE kind = 'empty') AS "Short of bikes",
    count(*) FILTER (WHERE kind = 'full') AS "Short of docks",
    count(*) FILTER (WHERE kind = 'empty' AND nothing_left) AS "Without any bike",
    count(*) FILTER (WHERE kind = 'full' AND nothing_left) AS "Without any dock",
    extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY ${asOf} - since)) AS "Standing for (median)",
    extract(epoch FROM max(${asOf} - since)) AS "Standing for (longest)",
    extract(epoch FROM ${asOf}) * 1000 AS "As of"
FROM \${critical}.critical_now
WHERE ${inArea}`),
    ],
    fields: [
        fields(/bike/, { color: fixed(red) }),
        fields(/dock/, { color: fixed(blue) }),
        fields(/^Standing/, { unit: "dtdurations", steps: lasting }),
        field("As of", { unit: "dateTimeAsLocal" }),
    ],
});

const where = map(
    {
        title: "Where",
        description: "Stations with an alarm: red for want of bikes, blue for want of docks.",
        empty: "No alarm stands",
        unit: "short",
        queries: [
            rows(`
SELECT lat, lon, name, kind, since, bikes, docks, area, station_id
FROM \${critical}.critical_now
WHERE ${inArea} AND lat IS NOT NULL AND lon IS NOT NULL
ORDER BY since`),
        ],
        fields: [field("kind", { mappings: stateColours }), field("name", { link: toStation })],
    },
    "kind",
);

const list = table({
    title: "Since when",
    description: "Alarms that stand, the oldest first.",
    empty: "No alarm stands",
    unit: "short",
    queries: [
        rows(`
SELECT name, kind, since, extract(epoch FROM ${asOf} - since) AS lasting, bikes, docks, capacity, area, station_id
FROM \${critical}.critical_now
WHERE ${inArea}
ORDER BY since, name`),
    ],
    fields: [
        field("name", { label: "Station", link: toStation, width: 210 }),
        field("kind", { label: "Is", mappings: stateColours, cell: "coloured", width: 75 }),
        field("since", { label: "Since", unit: "dateTimeAsLocal", width: 160 }),
        field("lasting", { label: "For", unit: "dtdurations", steps: lasting, cell: "coloured", width: 115 }),
        field("bikes", { label: "Bikes", width: 60 }),
        field("docks", { label: "Docks", width: 60 }),
        field("capacity", { label: "Built", width: 60 }),
        field("area", { label: "Area" }),
        field("station_id", { hidden: true }),
    ],
});

const areas = bars({
    title: "Areas with most alarms",
    description:
        "Share of the stations of an area with an alarm for bikes or docks, of areas of three stations and more.",
    empty: "No alarm stands",
    unit: "percentunit",
    queries: [
        rows(`
SELECT area, share_empty + share_full AS share
FROM \${critical}.critical_by_area
WHERE ${inArea} AND stations >= 3 AND empty + "full" > 0
ORDER BY share DESC, area
LIMIT 18`),
    ],
    defaults: { max: 1, decimals: 0, thresholds: lackSteps },
});

const history = lines(
    {
        title: "Alarms that stand",
        description: "How many alarms stood at a time, of those that stood for five minutes or longer.",
        empty: "No alarm in this time",
        unit: "short",
        queries: [
            series(`
WITH ${alarms.trim()}, steps AS (
    SELECT kind, greatest(began, $__timeFrom()) AS at, 1 AS step FROM alarms
    UNION ALL
    SELECT kind, ended, -1 FROM alarms WHERE ended <= $__timeTo()
)
SELECT
    $__timeGroupAlias(at, $__interval),
    CASE kind WHEN 'empty' THEN 'Short of bikes' ELSE 'Short of docks' END AS metric,
    sum(sum(step)) OVER (PARTITION BY kind ORDER BY $__timeGroup(at, $__interval)) AS value
FROM steps
GROUP BY 1, kind
ORDER BY 1`),
        ],
        interval: "5m",
        fields: [field("Short of bikes", { color: fixed(red) }), field("Short of docks", { color: fixed(blue) })],
    },
    {
        lineInterpolation: LineInterpolation.StepAfter,
        fillOpacity: 10,
        stacking: { mode: StackingMode.None, group: "A" },
    },
);

const raised = stacked({
    title: "Alarms raised",
    description: "By the hour in which they were raised.",
    empty: "No alarm in this time",
    unit: "short",
    queries: [
        series(`
WITH ${alarms.trim()}
SELECT
    $__timeGroupAlias(began, '1h'),
    count(*) FILTER (WHERE kind = 'empty') AS "Short of bikes",
    count(*) FILTER (WHERE kind = 'full') AS "Short of docks"
FROM alarms
WHERE $__timeFilter(began)
GROUP BY 1
ORDER BY 1`),
    ],
    interval: "1h",
    fields: [field("Short of bikes", { color: fixed(red) }), field("Short of docks", { color: fixed(blue) })],
});

const worst = table({
    title: "Worst stations",
    description: "Stations with most time under an alarm in the time range; share is of the whole range.",
    empty: "No alarm in this time",
    unit: "short",
    queries: [
        rows(`
WITH ${alarms.trim()}, parts AS (
    SELECT
        station_id,
        kind,
        extract(epoch FROM least(coalesce(ended, ${asOf}), $__timeTo()) - greatest(began, $__timeFrom())) AS seconds
    FROM alarms
)
SELECT
    s.name,
    p.kind,
    count(*) AS alarms,
    sum(p.seconds) AS total,
    max(p.seconds) AS longest,
    sum(p.seconds) / extract(epoch FROM $__timeTo()::timestamptz - $__timeFrom()::timestamptz) AS share,
    s.area,
    s.station_id
FROM parts p
JOIN \${occupancy}.stations s ON s.station_id = p.station_id
GROUP BY s.name, p.kind, s.area, s.station_id
ORDER BY total DESC, s.name
LIMIT 50`),
    ],
    fields: [
        field("name", { label: "Station", link: toStation, width: 230 }),
        field("kind", { label: "Was", mappings: stateColours, cell: "coloured", width: 75 }),
        field("alarms", { label: "Alarms", width: 70 }),
        field("total", { label: "Together", unit: "dtdurations", width: 130 }),
        field("longest", { label: "Longest", unit: "dtdurations", width: 130 }),
        field("share", {
            label: "Share of the time",
            unit: "percentunit",
            decimals: 0,
            min: 0,
            max: 1,
            steps: lackSteps,
            cell: "bar",
        }),
        field("area", { label: "Area", width: 170 }),
        field("station_id", { hidden: true }),
    ],
});

const log = table({
    title: "Alarms that are over",
    description: "The latest 200 that ended in the time range.",
    empty: "No alarm ended in this time",
    unit: "short",
    queries: [
        rows(`
SELECT l.ended, s.name, l.kind, l.began, extract(epoch FROM l.duration) AS lasted, s.area, l.station_id
FROM \${critical}.critical_log l
JOIN \${occupancy}.stations s ON s.station_id = l.station_id
WHERE $__timeFilter(l.ended) AND ${inArea}
ORDER BY l.ended DESC, s.name
LIMIT 200`),
    ],
    fields: [
        field("ended", { label: "Ended", unit: "dateTimeAsLocal", width: 160 }),
        field("name", { label: "Station", link: toStation, width: 210 }),
        field("kind", { label: "Was", mappings: stateColours, cell: "coloured", width: 75 }),
        field("began", { label: "Began", unit: "dateTimeAsLocal", width: 160 }),
        field("lasted", { label: "Lasted", unit: "dtdurations", steps: lasting, cell: "coloured", width: 120 }),
        field("area", { label: "Area" }),
        field("station_id", { hidden: true }),
    ],
});

export const criticalStations = dashboard({
    uid: "velib-critical",
    title: "Critical",
    description:
        "Stations that have run out, or nearly, of bikes or of docks: now, since when, before, and where it is worst.",
    from: "now-24h",
    refresh: "1m",
    variables: [occupancy, critical, area],
    bands: [
        band(4, [24, now]),
        band(17, [7, where], [12, list], [5, areas]),
        { heading: "Before" },
        band(9, [14, history], [10, raised]),
        band(15, [12, worst], [12, log]),
    ],
});
