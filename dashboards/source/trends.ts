// Trends: which stations empty and fill the fastest, when they will be empty or full, and how it was before.

import { rows, series } from "./data.js";
import { band, dashboard } from "./dashboard.js";
import { field, fields } from "./field.js";
import { blue, fixed, green, grey, orange, red, steps, violet } from "./palette.js";
import { bars, figures, lines, map, table } from "./panel.js";
import { toStation } from "./stations.js";
import { area, horizon, inArea, occupancy, trends } from "./variables.js";

/** Bikes an hour: losing is red, gaining blue. */
const slopeSteps = steps(red, [-10, orange], [-1, grey], [1, green], [10, blue]);

/** Minutes until there is nothing left. */
const soon = steps(red, [15, orange], [30, "text"]);

/** A time so many minutes after the snapshot that the trends are as of. */
const expected = (minutes: string) =>
    `(SELECT as_of FROM velib.frontier WHERE job = '\${trends}') + ${minutes} * INTERVAL '1 minute'`;

const now = figures({
    title: "Now",
    description:
        "Where the counts of the chosen areas are going, by the snapshots of the last 15 minutes. A station that gains or loses less than a bike an hour is steady. ± compares bikes with an hour, a day and a week ago.",
    empty: "No station",
    unit: "short",
    queries: [
        rows(`
SELECT
    count(*) FILTER (WHERE slope_15 <= -1) AS "Losing bikes",
    count(*) FILTER (WHERE slope_15 > -1 AND slope_15 < 1) AS "Steady",
    count(*) FILTER (WHERE slope_15 >= 1) AS "Gaining bikes",
    count(*) FILTER (WHERE bikes > 0 AND minutes_to_empty <= \${horizon}) AS "Empty in \${horizon} min",
    count(*) FILTER (WHERE docks > 0 AND minutes_to_full <= \${horizon}) AS "Full in \${horizon} min",
    sum(change_60) AS "Bikes ± an hour",
    sum(change_day) AS "± a day",
    sum(change_week) AS "± a week"
FROM \${trends}.station_trend
WHERE ${inArea}`),
    ],
    fields: [
        field("Losing bikes", { color: fixed(orange) }),
        field("Gaining bikes", { color: fixed(green) }),
        fields(/^Empty in/, { color: fixed(red) }),
        fields(/^Full in/, { color: fixed(blue) }),
    ],
});

function fastest(direction: "emptying" | "filling", title: string, end: string) {
    return table({
        title,
        description: `The stations that are ${direction} the fastest of the whole feed, by the snapshots of the last 15 minutes, and when there will be nothing left if it goes on so.`,
        empty: `No station is ${direction}`,
        unit: "short",
        queries: [
            rows(`
SELECT place, name, slope_15, bikes, docks, minutes, ${expected("minutes")} AS at, area, station_id
FROM \${trends}.fastest
WHERE direction = '${direction}'
ORDER BY place`),
        ],
        fields: [
            field("place", { label: " ", width: 40 }),
            field("name", { label: "Station", link: toStation, width: 215 }),
            field("slope_15", { label: "Bikes/h", decimals: 0, steps: slopeSteps, cell: "coloured", width: 75 }),
            field("bikes", { label: "Bikes", width: 60 }),
            field("docks", { label: "Docks", width: 60 }),
            field("minutes", { label: `${end} in`, unit: "m", decimals: 0, steps: soon, cell: "coloured", width: 90 }),
            field("at", { label: "At", unit: "dateTimeAsLocal", width: 160 }),
            field("area", { label: "Area" }),
            field("station_id", { hidden: true }),
        ],
    });
}

function within(what: "empty" | "full", left: "bikes" | "docks") {
    return table({
        title: `${what === "empty" ? "Empty" : "Full"} within $horizon minutes`,
        description: `Stations of the chosen areas that still have ${left}, and will have none if they go on as in the last 15 minutes.`,
        empty: "None",
        unit: "short",
        queries: [
            rows(`
SELECT name, ${left}, minutes_to_${what} AS minutes, ${expected(`minutes_to_${what}`)} AS at, slope_15, slope_60, area, station_id
FROM \${trends}.station_trend
WHERE ${inArea} AND ${left} > 0 AND minutes_to_${what} <= \${horizon}
ORDER BY minutes_to_${what}, name
LIMIT 100`),
        ],
        fields: [
            field("name", { label: "Station", link: toStation, width: 215 }),
            field(left, { label: left === "bikes" ? "Bikes" : "Docks", width: 60 }),
            field("minutes", { label: "In", unit: "m", decimals: 0, steps: soon, cell: "coloured", width: 80 }),
            field("at", { label: "At", unit: "dateTimeAsLocal", width: 160 }),
            field("slope_15", { label: "Bikes/h", decimals: 0, steps: slopeSteps, cell: "coloured", width: 75 }),
            field("slope_60", { label: "in 60 min", decimals: 0, width: 85 }),
            field("area", { label: "Area" }),
            field("station_id", { hidden: true }),
        ],
    });
}

const where = map(
    {
        title: "Where bikes go",
        description:
            "Bikes an hour by the snapshots of the last 15 minutes: red loses, blue gains, grey is steady. Positions are those of the job of occupancy.",
        empty: "No station is on the move",
        unit: "short",
        queries: [
            rows(`
SELECT s.lat, s.lon, s.name, t.slope_15, t.bikes, t.docks, t.minutes_to_empty, t.minutes_to_full, s.area, s.station_id
FROM (SELECT * FROM \${trends}.station_trend WHERE ${inArea} AND slope_15 IS NOT NULL) AS t
JOIN \${occupancy}.stations s ON s.station_id = t.station_id
WHERE s.lat IS NOT NULL AND s.lon IS NOT NULL
ORDER BY abs(t.slope_15), s.station_id`),
        ],
        fields: [
            field("slope_15", { label: "Bikes an hour", decimals: 0, steps: slopeSteps }),
            fields(/^minutes/, { unit: "m", decimals: 0 }),
            field("name", { link: toStation }),
        ],
    },
    "slope_15",
);

function movers(title: string, description: string, order: "ASC" | "DESC", condition: string) {
    return bars({
        title,
        description,
        empty: "No area",
        unit: "short",
        queries: [
            rows(`
SELECT area, abs(slope_15) AS "Bikes an hour"
FROM \${trends}.area_trend
WHERE ${inArea} AND slope_15 ${condition}
ORDER BY slope_15 ${order}, area
LIMIT 15`),
        ],
        defaults: { decimals: 0, thresholds: steps(order === "ASC" ? red : blue) },
    });
}

/** Bikes of the chosen areas by the hour, moved by so many days. */
function hourly(name: string, days: number): string {
    const earlier = (time: string) => (days === 0 ? time : `${time}::timestamptz - INTERVAL '${days} days'`);
    return `
SELECT h.hour + INTERVAL '${days} days' AS "time", sum(h.bikes) AS "${name}"
FROM \${trends}.station_hour h
JOIN \${trends}.station_trend t ON t.station_id = h.station_id
WHERE h.hour BETWEEN ${earlier("$__timeFrom()")} AND ${earlier("$__timeTo()")} AND ${inArea}
GROUP BY h.hour
ORDER BY h.hour`;
}

const dashed: Record<string, unknown> = { lineStyle: { fill: "dash", dash: [6, 4] }, lineWidth: 1 };

const before = lines(
    {
        title: "Bikes by the hour, and before",
        description:
            "Bikes at the stations of the chosen areas, mean of each hour; a day and a week before at the same time. What is missing is on the road.",
        empty: "Nothing is known of these areas in this time",
        unit: "short",
        queries: [series(hourly("Bikes", 0)), series(hourly("A day before", 1)), series(hourly("A week before", 7))],
        interval: "1h",
        defaults: { decimals: 0 },
        fields: [
            field("Bikes", { color: fixed(green), custom: { lineWidth: 3 } }),
            field("A day before", { color: fixed(orange), custom: dashed }),
            field("A week before", { color: fixed(violet), custom: dashed }),
        ],
    },
    { axisSoftMin: undefined },
);

const changes = table({
    title: "Areas, compared",
    description:
        "Bikes of each chosen area now, its slope, and how many more they are than 15 and 60 minutes ago, yesterday and a week ago.",
    empty: "No area",
    unit: "short",
    queries: [
        rows(`
SELECT area, bikes, slope_15, slope_60, change_15, change_60, change_day, change_week
FROM \${trends}.area_trend
WHERE ${inArea}
ORDER BY abs(slope_15) DESC NULLS LAST, area`),
    ],
    defaults: { decimals: 0 },
    fields: [
        field("area", { label: "Area", width: 210 }),
        field("bikes", { label: "Bikes", width: 65 }),
        fields(/^slope/, { steps: slopeSteps, cell: "coloured" }),
        field("slope_15", { label: "Bikes/h" }),
        field("slope_60", { label: "in 60 min" }),
        field("change_15", { label: "± 15 min" }),
        field("change_60", { label: "± 60 min" }),
        field("change_day", { label: "± a day" }),
        field("change_week", { label: "± a week" }),
    ],
});

export const trendsOfStations = dashboard({
    uid: "velib-trends",
    title: "Trends",
    description: "Which stations empty and fill the fastest, when they will be empty or full, and how it was before.",
    from: "now-24h",
    refresh: "1m",
    variables: [trends, occupancy, area, horizon],
    bands: [
        band(4, [24, now]),
        band(
            15,
            [12, fastest("emptying", "Emptying fastest", "Empty")],
            [12, fastest("filling", "Filling fastest", "Full")],
        ),
        { heading: "The chosen areas" },
        band(13, [12, within("empty", "bikes")], [12, within("full", "docks")]),
        band(
            14,
            [10, where],
            [7, movers("Areas that lose bikes", "Bikes an hour that leave, by the last 15 minutes.", "ASC", "< 0")],
            [7, movers("Areas that gain bikes", "Bikes an hour that arrive, by the last 15 minutes.", "DESC", "> 0")],
        ),
        band(12, [11, before], [13, changes]),
    ],
});
