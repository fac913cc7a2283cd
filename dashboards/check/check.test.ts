// The check itself: that macros are expanded as Grafana does, and that it finds what is wrong.

import assert from "node:assert/strict";
import { test } from "node:test";

import type { Dashboard, Panel } from "@grafana/schema";

import { rows } from "../source/data.js";
import { table } from "../source/panel.js";
import type { Answered } from "./answers.js";
import { faults as faultsOfContent } from "./content.js";
import { faults as faultsOfForm } from "./form.js";
import { expandProm, expandSql, expandTitle, type View } from "./macros.js";

const view: View = {
    from: new Date("2024-11-06T07:00:00Z"),
    to: new Date("2024-11-07T07:00:00Z"),
    interval: 300,
    scrapeInterval: 5,
    variables: new Map([
        ["job", { texts: ["occupancy"], values: ["occupancy"] }],
        ["area", { texts: ["Bel-Air", "L'Île"], values: ["45", "l'î"] }],
    ]),
};

test("macros of PostgreSQL", () => {
    const cases = [
        ["$__timeFilter(l.ended)", "l.ended BETWEEN '2024-11-06T07:00:00.000Z' AND '2024-11-07T07:00:00.000Z'"],
        ["$__timeFrom()::timestamptz", "'2024-11-06T07:00:00.000Z'::timestamptz"],
        ["$__timeGroupAlias(at, $__interval)", 'floor(extract(epoch from at)/300)*300 AS "time"'],
        ["$__timeGroup(at, '1h')", "floor(extract(epoch from at)/3600)*3600"],
        ["FROM ${job}.stations WHERE a IN (${area:sqlstring})", "FROM occupancy.stations WHERE a IN ('45','l''î')"],
    ];
    for (const [text, expanded] of cases) assert.equal(expandSql(text ?? "", view), expanded);
    for (const text of ["$__unixEpochFilter(at)", "$__range", "${station}", "${area}", "$area", "${job:csv}"]) {
        assert.throws(() => expandSql(text, view), text);
    }
});

test("macros of Prometheus", () => {
    assert.equal(expandProm('rate(x{job=~"$job"}[$__rate_interval])', view), 'rate(x{job=~"(occupancy)"}[305s])');
    assert.throws(() => expandProm("rate(x[$__timeFrom()])", view));
});

test("titles", () => assert.equal(expandTitle("$area at $job", view), "Bel-Air + L'Île at occupancy"));

const about = {
    title: "Stations",
    description: "All of them.",
    empty: "None",
    unit: "short",
    queries: [rows("SELECT 1")],
};
const place = { x: 0, y: 0, w: 12, h: 4 };

function formOf(...panels: Partial<Panel>[]): string[] {
    const laid = panels.map((panel, id) => ({ ...table(about), id, gridPos: place, ...panel }));
    return faultsOfForm({ panels: laid } as Dashboard, new Set());
}

test("faults of the form are found", () => {
    assert.deepEqual(formOf({}), []);
    assert.deepEqual(formOf({}, { title: "Other", gridPos: { ...place, x: 11 } }), ["Other: lies on Stations"]);
    assert.deepEqual(formOf({ gridPos: { ...place, x: 13 } }), ["Stations: lies outside of the grid"]);
    assert.deepEqual(formOf({ description: "" }), ["Stations: has no description"]);
    assert.deepEqual(formOf({ fieldConfig: { defaults: {}, overrides: [] } }), [
        "Stations: has no unit",
        "Stations: has no empty state (noValue)",
    ]);
    assert.deepEqual(formOf({ links: [{ url: "/d/gone" }] as never }), ["a link goes to gone, which is not there"]);
});

function contentOf(values: (number | null)[], name = "rate", scans: string[] = [], error?: string): string[] {
    const fields = [{ name, type: "number" as const, values }];
    const panel = table({ ...about, fields: [{ matcher: { id: "byName", options: "rate" }, properties: [] }] });
    const query = { refId: "A", datasource: { type: "", uid: "" } };
    const answers = [{ query, frames: [{ fields }], scans, error }];
    return faultsOfContent({ panel, title: "", answers, from: view.from, to: view.to } satisfies Answered);
}

test("faults of the answers are found", () => {
    assert.deepEqual(contentOf([null, 1]), []);
    assert.deepEqual(contentOf([]), ["query A: no rows"]);
    assert.deepEqual(contentOf([null]), ["query A: rate has no value in any row"]);
    assert.deepEqual(contentOf([1], "other"), ["nothing is named rate, for which there are settings"]);
    assert.deepEqual(contentOf([1], "rate", ["station_hour"]), [
        "query A: reads all of station_hour: no index serves it",
    ]);
    assert.deepEqual(contentOf([1], "rate", [], "syntax error"), ["query A: syntax error"]);
});
