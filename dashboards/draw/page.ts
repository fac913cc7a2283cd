// A dashboard as a page: its panels on Grafana's grid.

import type { Dashboard } from "@grafana/schema";

import type { Answered } from "../check/answers.js";
import { rowCount } from "../check/frame.js";
import { columns, map, overTime } from "./chart.js";
import { bars, cells, figures, table } from "./text.js";
import { escape } from "./value.js";

export const width = 1800;
const column = width / 24;
/** Height of a row of the grid with the space below it. */
const row = 38;
const gap = 8;
const head = 34;
const top = 56;

const style = `
body { margin: 0; background: #f4f5f5; font: 13px/1.3 sans-serif; color: #24292f; width: ${width}px }
h1 { font-size: 20px; margin: 0; padding: 14px 10px } h1 small { font-weight: normal; color: #57606a }
section, h2 { position: absolute; box-sizing: border-box; margin: 0 }
section { background: #fff; border: 1px solid #dfe1e5; border-radius: 3px; overflow: hidden }
h2 { font-size: 15px; padding: 6px 10px } h3 { font-size: 13px; margin: 0; padding: 9px 10px; height: 16px; white-space: nowrap }
.none { color: #8e939b; padding: 30px; text-align: center } .wrong { color: #d64045; padding: 10px }
.figures { display: flex; height: 76px } .figure { flex: 1; text-align: center } .figure small { display: block; color: #57606a }
.figure b { font-size: 26px; white-space: nowrap } .figure b.long { font-size: 17px; line-height: 34px }
table { border-collapse: collapse; width: 100%; table-layout: fixed }
td, th { box-sizing: border-box; padding: 5px 8px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; border-top: 1px solid #eceef0; height: 36px }
.gauge { display: flex; align-items: center; gap: 8px; flex: 1 } .gauge > i { flex: 1; height: 12px; background: #eceef0 }
.gauge i i { display: block; height: 12px } .gauge span { width: 50px; text-align: right }
.bars { padding: 0 10px } .bar { display: flex; height: 30px; align-items: center } .bar > span { width: 150px; overflow: hidden; white-space: nowrap; text-overflow: ellipsis }
.cells { display: flex; padding: 0 10px } .cells > span { width: 190px; overflow: hidden; white-space: nowrap; font-size: 12px }
.cells i { flex: 1; margin: 1px 1px 0 0 } .cells em { flex: 1; font-size: 11px; font-style: normal; color: #57606a }
`;

/** The page, and how high it is. */
export function page(dashboard: Dashboard, answered: Answered[]): { html: string; height: number } {
    const parts = answered.map((one) => {
        const { x, y, w, h } = one.panel.gridPos ?? { x: 0, y: 0, w: 0, h: 0 };
        const [wide, high] = [w * column - gap, h * row - gap];
        const at = `left:${x * column + gap / 2}px;top:${top + y * row}px;width:${wide}px;height:${high}px`;
        return `<section style="${at}"><h3>${escape(one.title)}</h3>${content(one, wide - 2, high - head)}</section>`;
    });
    const headings = (dashboard.panels ?? [])
        .filter((panel) => panel.type === "row")
        .map((panel) => {
            return `<h2 style="left:0;top:${top + (panel.gridPos?.y ?? 0) * row}px">${escape(panel.title ?? "")}</h2>`;
        });
    const height =
        top + row * Math.max(...(dashboard.panels ?? []).map(({ gridPos }) => (gridPos?.y ?? 0) + (gridPos?.h ?? 0)));
    const title = `<h1>${escape(dashboard.title ?? "")} <small>${escape(dashboard.description ?? "")}</small></h1>`;
    const html = `<!doctype html><meta charset="utf-8"><title>${escape(dashboard.title ?? "")}</title><style>${style}</style>${title}${headings.join("")}${parts.join("\n")}`;
    return { html, height };
}

function content(one: Answered, wide: number, high: number): string {
    const wrong = one.answers.map((answer) => answer.error).filter((error) => error !== undefined);
    if (wrong.length > 0) return `<div class="wrong">${escape(wrong.join("; "))}</div>`;
    const rows = one.answers.some((answer) => answer.frames.some((frame) => rowCount(frame) > 0));
    if (!rows) return `<div class="none">${escape(one.panel.fieldConfig?.defaults.noValue ?? "")}</div>`;
    switch (one.panel.type) {
        case "stat":
            return figures(one);
        case "table":
            return table(one, high);
        case "bargauge":
            return bars(one);
        case "timeseries":
            return overTime(one, wide, high);
        case "barchart":
            return columns(one, wide, high);
        case "status-history":
            return cells(one, high);
        case "geomap":
            return map(one, wide, high);
        default:
            throw new Error(`nobody can draw a panel of the kind ${one.panel.type}`);
    }
}
