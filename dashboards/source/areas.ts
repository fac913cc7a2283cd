// Areas: how full they are now, by the hour, and at each hour of the week.

import { FieldColorModeId, StackingMode } from "@grafana/schema";

import { rows, series } from "./data.js";
import { band, dashboard } from "./dashboard.js";
import { field, fields } from "./field.js";
import { blue, fixed, grey, lackSteps, occupancySteps, red } from "./palette.js";
import { bars, cells, columns, figures, lines, table } from "./panel.js";
import { area, inArea, occupancy, trends } from "./variables.js";

const toStations = {
    title: "Stations of this area",
    url: "/d/velib-stations?${__url_time_range}&${occupancy:queryparam}&var-area=${__data.fields.area_id:percentencode}",
};

const now = figures({
    title: "Now",
    description: "The chosen areas together, as of the last snapshot. Occupancy is bikes by bikes and docks.",
    empty: "No area",
    unit: "short",
    queries: [
        rows(`
SELECT
    count(*) AS "Areas",
    sum(stations) AS "Stations",
    sum(bikes) AS "Bikes",
    sum(docks) AS "Free docks",
    sum(bikes)::float8 / nullif(sum(bikes) + sum(docks), 0) AS "Occupancy",
    sum(empty)::float8 / nullif(sum(stations), 0) AS "Stations empty",
    sum("full")::float8 / nullif(sum(stations), 0) AS "Stations full",
    sum(closed) AS "Closed",
    sum(silent) AS "Silent"
FROM \${occupancy}.area_now
WHERE ${inArea}`),
    ],
    fields: [
        field("Occupancy", { unit: "percentunit", steps: occupancySteps }),
        fields(/^Stations (empty|full)$/, { unit: "percentunit", decimals: 1, steps: lackSteps }),
        fields(/^(Closed|Silent)$/, { color: fixed(grey) }),
    ],
});

const list = table({
    title: "Areas now",
    description: "Sums over the open stations of each area. Empty, full, closed and silent are stations.",
    empty: "No area",
    unit: "short",
    queries: [
        rows(`
SELECT area, arrondissement, stations, bikes, docks, rate, empty, "full", closed, silent, area_id
FROM \${occupancy}.area_now
WHERE ${inArea}
ORDER BY rate`),
    ],
    fields: [
        field("area", { label: "Area", link: toStations, width: 220 }),
        field("arrondissement", { label: "Arr.", width: 55 }),
        field("stations", { label: "Stations", width: 80 }),
        field("bikes", { label: "Bikes", width: 70 }),
        field("docks", { label: "Docks", width: 70 }),
        field("rate", {
            label: "Occupancy",
            unit: "percentunit",
            decimals: 0,
            min: 0,
            max: 1,
            steps: occupancySteps,
            cell: "bar",
        }),
        field("empty", { label: "Empty", width: 65 }),
        field("full", { label: "Full", width: 55 }),
        field("closed", { label: "Closed", width: 70 }),
        field("silent", { label: "Silent", width: 65 }),
        field("area_id", { hidden: true }),
    ],
});

const arrondissements = bars({
    title: "Arrondissements now",
    description: "Occupancy of each arrondissement: bikes by bikes and docks.",
    empty: "The areas of this feed are in no arrondissement",
    unit: "percentunit",
    queries: [
        rows(`
SELECT 'Paris ' || lpad(arrondissement::text, 2, '0') AS name, rate
FROM \${occupancy}.arrondissement_now
ORDER BY arrondissement`),
    ],
    defaults: { max: 1, decimals: 0, thresholds: occupancySteps },
});

const hours = Array.from({ length: 24 }, (_, hour) => String(hour).padStart(2, "0"));

const ofHour = (hour: number) =>
    `sum(bikes) FILTER (WHERE hour = ${hour}) / nullif(sum(bikes + docks) FILTER (WHERE hour = ${hour}), 0)`;

const week = table({
    title: "Hours of the week",
    description:
        "Occupancy of the chosen areas at each hour of the week, on the clocks of Paris: the mean over all that the engine has seen.",
    empty: "Nothing has been seen yet",
    unit: "percentunit",
    queries: [
        rows(`
SELECT
    (ARRAY['Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday', 'Sunday'])[weekday::int] AS day,
${hours.map((name, hour) => `    ${ofHour(hour)} AS "${name}"`).join(",\n")}
FROM \${trends}.area_profile
WHERE ${inArea}
GROUP BY weekday
ORDER BY weekday`),
    ],
    fields: [
        field("day", { label: "Day", width: 100 }),
        fields(/^[0-9]{2}$/, {
            decimals: 0,
            color: { mode: FieldColorModeId.Thresholds },
            steps: occupancySteps,
            cell: "filled",
        }),
    ],
});

const hourly = cells(
    {
        title: "Occupancy by area and hour",
        description:
            "A line for each chosen area, a cell for each hour: red where there were few bikes, blue where there were few docks.",
        empty: "Nothing is known of these areas in this time",
        unit: "percentunit",
        queries: [
            series(`
SELECT hour AS "time", area AS metric, rate AS value
FROM \${occupancy}.area_hour
WHERE ${inArea} AND $__timeFilter(hour) AND rate IS NOT NULL
ORDER BY hour, area`),
        ],
        interval: "1h",
        defaults: { min: 0, max: 1, decimals: 0, thresholds: occupancySteps },
    },
    40,
);

const together = lines({
    title: "The chosen areas by the hour",
    description:
        "Occupancy of the chosen areas together, and the share of the time in which a station of theirs was open without a bike or without a dock.",
    empty: "Nothing is known of these areas in this time",
    unit: "percentunit",
    queries: [
        series(`
SELECT
    hour AS "time",
    sum(bikes) / nullif(sum(bikes + docks), 0) AS "Occupancy",
    sum(share_empty * stations) / nullif(sum(stations), 0) AS "Time empty",
    sum(share_full * stations) / nullif(sum(stations), 0) AS "Time full"
FROM \${occupancy}.area_hour
WHERE ${inArea} AND $__timeFilter(hour)
GROUP BY hour
ORDER BY hour`),
    ],
    interval: "1h",
    defaults: { min: 0, decimals: 1 },
    fields: [field("Time empty", { color: fixed(red) }), field("Time full", { color: fixed(blue) })],
});

const lacking = columns(
    {
        title: "Stations empty and full by hour of the day",
        description:
            "Stations of the chosen areas that were open without a bike or without a dock at a time: on average over the last seven days, on the clocks of Paris.",
        last: "7d",
        empty: "Nothing is known of these areas in this time",
        unit: "short",
        queries: [
            rows(`
SELECT to_char(local_hour, 'HH24') AS hour, avg(empty) AS "Stations empty", avg("full") AS "Stations full"
FROM (
    SELECT local_hour, sum(share_empty * stations) AS empty, sum(share_full * stations) AS "full"
    FROM \${occupancy}.area_hour
    WHERE ${inArea} AND $__timeFilter(hour)
    GROUP BY local_hour
) AS hours
GROUP BY 1
ORDER BY 1`),
        ],
        defaults: { decimals: 1 },
        fields: [field("Stations empty", { color: fixed(red) }), field("Stations full", { color: fixed(blue) })],
    },
    "hour",
    StackingMode.Normal,
);

export const areas = dashboard({
    uid: "velib-areas",
    title: "Areas",
    description: "How full areas are now, by the hour, and at each hour of the week.",
    from: "now-48h",
    refresh: "1m",
    variables: [occupancy, trends, area],
    bands: [
        band(4, [24, now]),
        band(16, [17, list], [7, arrondissements]),
        { heading: "By the hour" },
        band(9, [24, week]),
        band(9, [14, together], [10, lacking]),
        band(26, [24, hourly]),
    ],
});
