// What can be said of a dashboard without any data.

import type { Dashboard, GridPos, Panel } from "@grafana/schema";

import { postgres, prometheus } from "../source/data.js";
import { width } from "../source/dashboard.js";

/** What is wrong with a dashboard, panel by panel. `uids` are those of all dashboards. */
export function faults(dashboard: Dashboard, uids: Set<string>): string[] {
    const found: string[] = [];
    const placed: [string, GridPos][] = [];
    for (const panel of dashboard.panels ?? []) {
        const name = panel.title || `panel ${panel.id}`;
        const at = panel.gridPos;
        if (!at) {
            found.push(`${name}: has no place`);
            continue;
        }
        if (at.x < 0 || at.w < 1 || at.h < 1 || at.x + at.w > width) found.push(`${name}: lies outside of the grid`);
        for (const [other, there] of placed) {
            if (overlap(at, there)) found.push(`${name}: lies on ${other}`);
        }
        placed.push([name, at]);
        if (panel.type !== "row") found.push(...untold(panel as Panel).map((what) => `${name}: ${what}`));
    }
    const ids = (dashboard.panels ?? []).map((panel) => panel.id);
    if (new Set(ids).size !== ids.length) found.push("two panels have the same id");
    for (const [, uid = ""] of JSON.stringify(dashboard).matchAll(/\/d\/([\w-]+)/g)) {
        if (!uids.has(uid)) found.push(`a link goes to ${uid}, which is not there`);
    }
    return found;
}

function overlap(a: GridPos, b: GridPos): boolean {
    return a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
}

/** What a panel must say, and does not. */
function untold(panel: Panel): string[] {
    const { unit, noValue } = panel.fieldConfig?.defaults ?? {};
    const said = { title: panel.title, description: panel.description, unit, "empty state (noValue)": noValue };
    const missing = Object.entries(said).filter(([, text]) => !text);
    const found = missing.map(([what]) => `has no ${what}`);
    if ((panel.targets ?? []).length === 0) found.push("asks nothing");
    for (const target of panel.targets ?? []) {
        const uid = (target["datasource"] as { uid?: string } | undefined)?.uid;
        if (uid !== postgres.uid && uid !== prometheus.uid)
            found.push(`asks a data source ${uid} that is not provisioned`);
    }
    return found;
}
