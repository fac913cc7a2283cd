// What can be chosen at the head of a dashboard.
//
// A job may be installed more than once, for several feeds and under several names; so the job is a variable, and
// queries name tables as `${occupancy}.station_now`. The name of a job is lower-case letters, digits and `_`: it
// needs no quotes.

import { VariableRefresh, VariableSort, type VariableModel } from "@grafana/schema";

import { postgres } from "./data.js";

/** The jobs that keep a view of this name. */
function job(name: string, label: string, view: string): VariableModel {
    return {
        type: "query",
        name,
        label,
        description: `The job whose tables are shown: one that has a view ${view}.`,
        datasource: postgres,
        query: `SELECT job FROM velib.views WHERE view = '${view}' ORDER BY job`,
        refresh: VariableRefresh.onDashboardLoad,
        sort: VariableSort.disabled,
    };
}

export const occupancy = job("occupancy", "Feed", "station_now");
export const critical = job("critical", "Job of alarms", "critical_now");
export const trends = job("trends", "Job of trends", "fastest");

/** Areas of the feed; `-` stands for stations outside all of them. */
export const area: VariableModel = {
    type: "query",
    name: "area",
    label: "Area",
    description: "Quartiers, and communes outside of them.",
    datasource: postgres,
    query: `SELECT DISTINCT coalesce(area, 'outside all areas') AS __text, coalesce(area_id, '-') AS __value
FROM \${occupancy}.stations ORDER BY 1`,
    refresh: VariableRefresh.onDashboardLoad,
    sort: VariableSort.disabled,
    multi: true,
    includeAll: true,
    current: { text: ["All"], value: ["$__all"] },
};

/** Stations of these areas. */
export const station: VariableModel = {
    type: "query",
    name: "station",
    label: "Station",
    description: "For what is shown of a single station.",
    datasource: postgres,
    query: `SELECT coalesce(name, station_id) AS __text, station_id AS __value
FROM \${occupancy}.stations WHERE coalesce(area_id, '-') IN (\${area:sqlstring}) ORDER BY 1, 2`,
    refresh: VariableRefresh.onDashboardLoad,
    sort: VariableSort.disabled,
};

/** Within the next so many minutes. */
export const horizon: VariableModel = {
    type: "custom",
    name: "horizon",
    label: "Minutes ahead",
    description: "How far ahead stations are looked for that will be empty or full.",
    query: "15,30,60,120",
    current: { text: "30", value: "30" },
    options: ["15", "30", "60", "120"].map((value) => ({ text: value, value, selected: value === "30" })),
};

/** In a condition: the chosen areas. */
export const inArea = "coalesce(area_id, '-') IN (${area:sqlstring})";
