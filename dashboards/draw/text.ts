// Panels that are text and boxes: figures, tables, lying bars, lines of cells.

import type { Panel } from "@grafana/schema";

import type { Answered } from "../check/answers.js";
import { rowCount, type Field, type Frame, type Value } from "../check/frame.js";
import { nameOf, settingsOf, type Settings } from "./settings.js";
import { clock, colourOf, escape, ink, read } from "./value.js";

/** Settings for names are by the field, so that each figure is a field with its last value. */
export function figures({ panel, answers }: Answered): string {
    const fields = answers.flatMap((answer) => answer.frames.flatMap((frame) => shown(panel, frame)));
    const each = fields.map((field) => {
        const settings = settingsOf(panel, field);
        const value = field.values.at(-1) ?? null;
        const text = value === null ? (settings.noValue ?? "") : read(value, field.type, settings);
        return `<div class="figure"><small>${escape(nameOf(field, settings))}</small>
      <b class="${text.length > 12 ? "long" : ""}" style="color:${colourOf(value, settings) ?? ink}">${escape(text)}</b></div>`;
    });
    return `<div class="figures">${each.join("")}</div>`;
}

/** Figures by series leave out their times. */
function shown(panel: Panel, frame: Frame): Field[] {
    const { fields } = (panel.options?.["reduceOptions"] ?? {}) as { fields?: string };
    return fields === "" ? frame.fields.filter((field) => field.type !== "time") : frame.fields;
}

/** Of Grafana's rows of a table; the head is one too. */
const rowHeight = 36;

/** No more rows than anybody would see. */
export function table({ panel, answers }: Answered, height: number): string {
    const frame = answers[0]?.frames[0];
    if (!frame) return "";
    const visible = frame.fields.map((field) => ({ field, settings: settingsOf(panel, field) }));
    const shown = visible.filter(({ settings }) => !settings.custom["hidden"]);
    const rows = Math.min(rowCount(frame), Math.ceil(height / rowHeight) - 1);
    const head = shown.map(({ field, settings }) => {
        const side = field.type === "number" ? "right" : "left";
        const width = settings.custom["width"] ? `width:${settings.custom["width"]}px` : "";
        return `<th style="text-align:${side};${width}">${escape(nameOf(field, settings))}</th>`;
    });
    const body = Array.from({ length: rows }, (_, row) => {
        const cells = shown.map(({ field, settings }) => cell(field.values[row] ?? null, field, settings));
        return `<tr>${cells.join("")}</tr>`;
    });
    return `<table><tr>${head.join("")}</tr>${body.join("")}</table>`;
}

function cell(value: Value, field: Field, settings: Settings): string {
    const text = escape(read(value, field.type, settings));
    const colour = colourOf(value, settings);
    const { type } = (settings.custom["cellOptions"] ?? {}) as { type?: string };
    if (type === "gauge") return `<td>${gauge(Number(value), settings.max ?? 1, colour, text)}</td>`;
    let style = `text-align:${field.type === "number" ? "right" : "left"};`;
    if (colour && type === "color-background") style += `background:${colour};color:#fff`;
    if (colour && type === "color-text") style += `color:${colour};font-weight:600`;
    return `<td style="${style}">${settings.links?.length ? `<u>${text}</u>` : text}</td>`;
}

function gauge(value: number, max: number, colour: string | undefined, text: string): string {
    const length = Math.min(Math.max(value / max, 0), 1) * 100;
    return `<div class="gauge"><i><i style="width:${length}%;background:${colour ?? ink}"></i></i><span>${text}</span></div>`;
}

/** The first column names, the second measures. */
export function bars({ panel, answers }: Answered): string {
    const [names, values] = answers[0]?.frames[0]?.fields ?? [];
    if (!names || !values) return "";
    const settings = settingsOf(panel, values);
    const numbers = values.values.map(Number);
    const max = settings.max ?? Math.max(...numbers);
    const lines = numbers.map((value, row) => {
        const text = read(value, "number", settings);
        return `<div class="bar"><span>${escape(String(names.values[row]))}</span>${gauge(value, max, colourOf(value, settings), text)}</div>`;
    });
    return `<div class="bars">${lines.join("")}</div>`;
}

/** A page of its lines, as Grafana shows them: for each series a line, for each point in time a cell. */
export function cells({ panel, answers }: Answered, height: number): string {
    const frames = answers.flatMap((answer) => answer.frames).slice(0, Number(panel.options?.["perPage"] || Infinity));
    const times = [...new Set(frames.flatMap((frame) => frame.fields[0]?.values.map(Number) ?? []))].sort(
        (a, b) => a - b,
    );
    const thickness = Math.floor((height - 24) / frames.length);
    const lines = frames.map(({ fields: [at, field] }) => {
        if (!at || !field) return "";
        const settings = settingsOf(panel, field);
        const colours = new Map(
            at.values.map((time, row) => [Number(time), colourOf(field.values[row] ?? null, settings)]),
        );
        const boxes = times.map((time) => `<i style="background:${colours.get(time) ?? "none"}"></i>`);
        return `<div class="cells" style="height:${thickness}px"><span>${escape(field.name)}</span>${boxes.join("")}</div>`;
    });
    const every = Math.ceil(times.length / 12);
    const marks = times.filter((_time, place) => place % every === 0).map((time) => `<em>${clock(time, true)}</em>`);
    return `${lines.join("")}<div class="cells"><span></span>${marks.join("")}</div>`;
}
