// Stations: where there are bikes and docks now, and one station over time.

import { GraphDrawStyle, StackingMode, type FieldConfig, type LineStyle } from "@grafana/schema";

import { rows, series } from "./data.js";
import { band, dashboard } from "./dashboard.js";
import { field } from "./field.js";
import { blue, fixed, green, grey, occupancySteps, orange, red, stateColours, violet } from "./palette.js";
import { columns, figures, lines, map, stacked, table } from "./panel.js";
import { area, inArea, occupancy, station } from "./variables.js";

/** To one station, from a row with its id. */
export const toStation = {
    title: "This station over time",
    url: "/d/velib-stations?${__url_time_range}&${occupancy:queryparam}&var-station=${__data.fields.station_id:percentencode}",
};

const now = figures({
    title: "Now",
    description:
        "Stations of the chosen areas as of the last snapshot. Closed stations offer nothing and are not counted in bikes and docks.",
    empty: "No station",
    unit: "short",
    queries: [
        rows(`
SELECT
    count(*) AS "Stations",
    sum(bikes) FILTER (WHERE state <> 'closed') AS "Bikes",
    sum(ebikes) FILTER (WHERE state <> 'closed') AS "of them electric",
    sum(docks) FILTER (WHERE state <> 'closed') AS "Free docks",
    count(*) FILTER (WHERE state = 'empty') AS "Empty",
    count(*) FILTER (WHERE state = 'low') AS "Low",
    count(*) FILTER (WHERE state = 'full') AS "Full",
    count(*) FILTER (WHERE state = 'closed') AS "Closed",
    count(*) FILTER (WHERE is_silent) AS "Silent",
    (SELECT extract(epoch FROM as_of) * 1000 FROM velib.frontier WHERE job = '\${occupancy}') AS "As of"
FROM \${occupancy}.station_now
WHERE ${inArea}`),
    ],
    fields: [
        field("Empty", { color: fixed(red) }),
        field("Low", { color: fixed(orange) }),
        field("Full", { color: fixed(blue) }),
        field("Closed", { color: fixed(grey) }),
        field("Silent", { color: fixed(grey) }),
        field("As of", { unit: "dateTimeAsLocal" }),
    ],
});

const where = map(
    {
        title: "Stations by state",
        description:
            "Each station as of the last snapshot, the larger the more docks it was built with. Low: a fifth of its places or less has a bike.",
        empty: "No station with a position",
        unit: "short",
        queries: [
            rows(`
SELECT lat, lon, name, state, bikes, ebikes, docks, rate, capacity, area, station_id
FROM \${occupancy}.station_now
WHERE ${inArea} AND lat IS NOT NULL AND lon IS NOT NULL
ORDER BY capacity DESC, station_id`),
        ],
        fields: [
            field("state", { mappings: stateColours }),
            field("rate", { unit: "percentunit", decimals: 0 }),
            field("name", { link: toStation }),
        ],
    },
    "state",
    { column: "capacity", from: 3, to: 8 },
);

const list = table({
    title: "Stations",
    description:
        "Those that lack something first. Bikes and docks are what can be taken and returned to now; reported is when the station last spoke with its operator, as the feed says.",
    empty: "No station",
    unit: "short",
    queries: [
        rows(`
SELECT name, state, bikes, ebikes, docks, rate, area, reported_at, station_id
FROM \${occupancy}.station_now
WHERE ${inArea}
ORDER BY array_position(ARRAY['empty', 'full', 'low', 'closed', 'unknown', 'ok'], state), name`),
    ],
    fields: [
        field("name", { label: "Station", link: toStation, width: 230 }),
        field("state", { label: "State", mappings: stateColours, cell: "coloured", width: 70 }),
        field("bikes", { label: "Bikes", width: 65 }),
        field("ebikes", { label: "Electric", width: 75 }),
        field("docks", { label: "Docks", width: 65 }),
        field("rate", {
            label: "Occupancy",
            unit: "percentunit",
            decimals: 0,
            min: 0,
            max: 1,
            steps: occupancySteps,
            cell: "bar",
            width: 130,
        }),
        field("area", { label: "Area" }),
        field("reported_at", { label: "Reported", unit: "dateTimeAsLocal", width: 160 }),
        field("station_id", { hidden: true }),
    ],
});

const one = figures({
    title: "$station now",
    description: "The chosen station as of the last snapshot.",
    empty: "This station is not listed any more",
    unit: "short",
    queries: [
        rows(`
SELECT
    state AS "State",
    bikes AS "Bikes",
    ebikes AS "of them electric",
    docks AS "Free docks",
    capacity AS "Built",
    rate AS "Occupancy",
    extract(epoch FROM reported_at) * 1000 AS "Reported"
FROM \${occupancy}.station_now
WHERE station_id = \${station:sqlstring}`),
    ],
    fields: [
        field("State", { mappings: stateColours }),
        field("Occupancy", { unit: "percentunit", steps: occupancySteps }),
        field("Reported", { unit: "dateTimeAsLocal" }),
    ],
});

/** What the station was like so many days before, at the time of now. */
function before(days: number, name: string): string {
    const earlier = (time: string) => `${time}::timestamptz - INTERVAL '${days} days'`;
    return `
SELECT hour + INTERVAL '${days} days' AS "time", bikes AS "${name}"
FROM \${occupancy}.station_hour
WHERE station_id = \${station:sqlstring}
  AND hour BETWEEN ${earlier("$__timeFrom()")} AND ${earlier("$__timeTo()")}
ORDER BY hour`;
}

const dashed: Record<string, unknown> = { lineStyle: { fill: "dash", dash: [6, 4] } satisfies LineStyle, lineWidth: 1 };

const day = lines(
    {
        title: "$station by the hour",
        description:
            "Bikes on average over the time of each hour, between the fewest and the most of a snapshot in it, with the same hour of the day and of the week before.",
        empty: "Nothing is known of this station in this time",
        unit: "short",
        queries: [
            series(`
SELECT hour AS "time", bikes AS "Bikes", bikes_min AS "Fewest", bikes_max AS "Most", docks AS "Free docks"
FROM \${occupancy}.station_hour
WHERE station_id = \${station:sqlstring} AND $__timeFilter(hour)
ORDER BY hour`),
            series(before(1, "Bikes a day before")),
            series(before(7, "Bikes a week before")),
        ],
        interval: "1h",
        fields: [
            field("Bikes", { color: fixed(green), custom: { lineWidth: 3 } }),
            field("Fewest", {
                color: fixed(green),
                custom: { lineWidth: 0, hideFrom: { viz: false, legend: true, tooltip: false } },
            }),
            field("Most", {
                color: fixed(green),
                custom: {
                    lineWidth: 0,
                    fillBelowTo: "Fewest",
                    fillOpacity: 15,
                    hideFrom: { viz: false, legend: true, tooltip: false },
                },
            }),
            field("Free docks", { color: fixed(blue) }),
            field("Bikes a day before", { color: fixed(orange), custom: dashed }),
            field("Bikes a week before", { color: fixed(violet), custom: dashed }),
        ],
    },
    { drawStyle: GraphDrawStyle.Line },
);

const share: FieldConfig = { min: 0, max: 1 };

const lacks = stacked({
    title: "$station: time without bikes, without docks, closed",
    description:
        "Share of each hour in which the station was open without a bike, open without a free dock, or closed.",
    empty: "Nothing is known of this station in this time",
    unit: "percentunit",
    queries: [
        series(`
SELECT hour AS "time", share_empty AS "Empty", share_full AS "Full", share_closed AS "Closed"
FROM \${occupancy}.station_hour
WHERE station_id = \${station:sqlstring} AND $__timeFilter(hour)
ORDER BY hour`),
    ],
    interval: "1h",
    defaults: share,
    fields: [
        field("Empty", { color: fixed(red) }),
        field("Full", { color: fixed(blue) }),
        field("Closed", { color: fixed(grey) }),
    ],
});

const hours = columns(
    {
        title: "Hours of the day at $station",
        description:
            "Bikes and docks on average over the last seven days, at each hour of Paris: when it usually lacks bikes, and when docks.",
        last: "7d",
        empty: "Nothing is known of this station in this time",
        unit: "short",
        queries: [
            rows(`
SELECT to_char(hour AT TIME ZONE 'Europe/Paris', 'HH24') AS hour, avg(bikes) AS "Bikes", avg(docks) AS "Free docks"
FROM \${occupancy}.station_hour
WHERE station_id = \${station:sqlstring} AND $__timeFilter(hour)
GROUP BY 1
ORDER BY 1`),
        ],
        defaults: { decimals: 1 },
        fields: [field("Bikes", { color: fixed(green) }), field("Free docks", { color: fixed(blue) })],
    },
    "hour",
    StackingMode.Normal,
);

export const stations = dashboard({
    uid: "velib-stations",
    title: "Stations",
    description: "Where there are bikes and docks now, and one station over time.",
    from: "now-24h",
    refresh: "1m",
    variables: [occupancy, area, station],
    bands: [
        band(4, [24, now]),
        band(19, [11, where], [13, list]),
        { heading: "One station" },
        band(4, [24, one]),
        band(11, [11, day], [7, lacks], [6, hours]),
    ],
});
