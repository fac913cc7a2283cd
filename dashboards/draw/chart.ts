// Panels that are drawn: lines and bars over time, standing bars, maps. As SVG, without a browser.

import type { FieldConfig, Panel } from "@grafana/schema";
import * as echarts from "echarts";

import type { Answered } from "../check/answers.js";
import type { Field, Value } from "../check/frame.js";
import { nameOf, settingsOf, type Settings } from "./settings.js";
import { clock, colourOf, inUnit, palette, read } from "./value.js";

interface Line {
    field: Field;
    settings: Settings;
    times: Value[];
}

const small = { fontSize: 11, color: "#57606a" };

function svg(option: object, width: number, height: number): string {
    const chart = echarts.init(null, null, { renderer: "svg", ssr: true, width, height });
    chart.setOption({ animation: false, textStyle: { fontFamily: "sans-serif" }, ...option } as echarts.EChartsOption);
    const text = chart.renderToSVGString();
    chart.dispose();
    return text;
}

function linesOf({ panel, answers }: Answered): Line[] {
    return answers.flatMap((answer) =>
        answer.frames.flatMap((frame) => {
            const times = frame.fields.find((field) => field.type === "time");
            const others = frame.fields.filter((field) => field !== times);
            return others.map((field) => ({ field, settings: settingsOf(panel, field), times: times?.values ?? [] }));
        }),
    );
}

export function overTime(answered: Answered, width: number, height: number): string {
    const lines = linesOf(answered);
    const defaults: FieldConfig = answered.panel.fieldConfig?.defaults ?? {};
    const softly = defaults.custom?.["axisSoftMin"] === 0;
    const beside = (answered.panel.options?.["legend"] as { placement?: string })?.placement === "right";
    const legend = beside
        ? {
              type: "scroll",
              orient: "vertical",
              right: 0,
              top: 8,
              width: 330,
              textStyle: { ...small, width: 300, overflow: "truncate" },
              itemWidth: 14,
          }
        : { type: "scroll", bottom: 0, left: 8, textStyle: small, itemWidth: 14, itemHeight: 8 };
    const hidden = (line: Line) => (line.settings.custom["hideFrom"] as { legend?: boolean } | undefined)?.legend;
    const series = lines.map((line, place) => drawn(line, place, lines));
    return svg(
        {
            grid: { left: 8, right: beside ? 350 : 14, top: 14, bottom: beside ? 8 : 34, containLabel: true },
            legend: {
                ...legend,
                data: lines.filter((line) => !hidden(line)).map((line) => nameOf(line.field, line.settings)),
            },
            xAxis: {
                type: "time",
                min: answered.from.getTime(),
                max: answered.to.getTime(),
                axisLabel: { ...small, hideOverlap: true, formatter: (at: number) => clock(at, true).slice(-5) },
            },
            yAxis: {
                type: "value",
                min: defaults.min ?? (softly ? ({ min }: { min: number }) => Math.min(0, min) : "dataMin"),
                max: defaults.max,
                axisLabel: { ...small, formatter: (value: number) => inUnit(value, defaults.unit ?? "short") },
                splitLine: { lineStyle: { color: "#e6e8eb" } },
            },
            series,
        },
        width,
        height,
    );
}

function drawn({ field, settings, times }: Line, place: number, all: Line[]): object {
    const { custom } = settings;
    const color = settings.color?.mode === "fixed" ? settings.color.fixedColor : palette[place % palette.length];
    const points = field.values.map((value, row) => [times[row], value]);
    const common = { name: nameOf(field, settings), data: points, itemStyle: { color }, color };
    if (custom["drawStyle"] === "bars") return { ...common, type: "bar", stack: "all", barMaxWidth: 24 };
    const below = all.find((line) => line.field.name === custom["fillBelowTo"]);
    const dash = (custom["lineStyle"] as { fill?: string } | undefined)?.fill === "dash";
    const width = Number(custom["lineWidth"] ?? 1);
    const opacity = below ? 0 : Number(custom["fillOpacity"] ?? 0) / 100;
    const line = {
        ...common,
        type: "line",
        symbol: "none",
        step: custom["lineInterpolation"] === "stepAfter" ? "end" : false,
        lineStyle: { width, type: dash ? "dashed" : "solid", color, opacity: width === 0 ? 0 : 1 },
        areaStyle: opacity > 0 ? { opacity, color } : undefined,
    };
    return below ? { ...line, markArea: band(field, below, times, String(color)) } : line;
}

/** Between two lines: a strip for each point. */
function band(upper: Field, lower: Line, times: Value[], color: string): object {
    const strips = times
        .slice(0, -1)
        .map((at, row) => [{ coord: [at, lower.field.values[row]] }, { coord: [times[row + 1], upper.values[row]] }]);
    return { silent: true, itemStyle: { color, opacity: 0.15 }, data: strips };
}

export function columns({ panel, answers }: Answered, width: number, height: number): string {
    const fields = answers[0]?.frames[0]?.fields ?? [];
    const x = fields.find((field) => field.name === panel.options?.["xField"]);
    const others = fields.filter((field) => field !== x);
    return svg(
        {
            grid: { left: 8, right: 14, top: 14, bottom: 34, containLabel: true },
            legend: { bottom: 0, left: 8, textStyle: small, itemWidth: 14, itemHeight: 8 },
            xAxis: { type: "category", data: x?.values, axisLabel: small },
            yAxis: { type: "value", axisLabel: small, splitLine: { lineStyle: { color: "#e6e8eb" } } },
            series: others.map((field, place) => {
                const settings = settingsOf(panel, field);
                const stack = panel.options?.["stacking"] === "normal" ? "all" : undefined;
                const color = settings.color?.fixedColor ?? palette[place];
                return { type: "bar", stack, name: nameOf(field, settings), data: field.values, itemStyle: { color } };
            }),
        },
        width,
        height,
    );
}

/** Without the streets: places as they lie to each other. */
export function map({ panel, answers }: Answered, width: number, height: number): string {
    const fields = answers[0]?.frames[0]?.fields ?? [];
    const column = (name: string) => fields.find((field) => field.name === name);
    const { color, size } = styleOf(panel);
    const [lat, lon, coloured, sized] = [column("lat"), column("lon"), column(color.field), column(size.field ?? "")];
    if (!lat || !lon || !coloured) return "";
    const settings = settingsOf(panel, coloured);
    const largest = Math.max(...(sized?.values.map(Number) ?? [1]));
    // Degrees of longitude are shorter than those of latitude.
    const narrow = Math.cos((Number(lat.values[0]) * Math.PI) / 180);
    const data = lat.values.map((north, row) => {
        const radius = sized ? size.min + (size.max - size.min) * (Number(sized.values[row]) / largest) : size.fixed;
        const paint = { color: colourOf(coloured.values[row] ?? null, settings), opacity: 0.8 };
        return { value: [Number(lon.values[row]) * narrow, Number(north)], symbolSize: radius * 2, itemStyle: paint };
    });
    const [xs, ys] = [0, 1].map((axis) => data.map((point) => point.value[axis] ?? 0)) as [number[], number[]];
    const extent = (all: number[]): [number, number] => [Math.min(...all), Math.max(...all)];
    const [[left, right], [bottom, top]] = [extent(xs), extent(ys)];
    const scale = Math.max((right - left) / (width - 40), (top - bottom) / (height - 40));
    const around = (low: number, high: number, pixels: number) => {
        const middle = (low + high) / 2;
        return { min: middle - (scale * pixels) / 2, max: middle + (scale * pixels) / 2, show: false };
    };
    return svg(
        {
            grid: { left: 20, right: 20, top: 20, bottom: 20 },
            xAxis: { type: "value", ...around(left, right, width - 40) },
            yAxis: { type: "value", ...around(bottom, top, height - 40) },
            series: [{ type: "scatter", data }],
            graphic: key(coloured, settings, height),
        },
        width,
        height,
    );
}

interface MarkerStyle {
    color: { field: string };
    size: { field?: string; fixed: number; min: number; max: number };
}

function styleOf(panel: Panel): MarkerStyle {
    const [layer] = panel.options?.["layers"] as { config: { style: MarkerStyle } }[];
    if (!layer) throw new Error(`${panel.title} has no layer`);
    return layer.config.style;
}

/** What the colours mean. */
function key(field: Field, settings: Settings, height: number): object[] {
    const kinds =
        field.type === "string"
            ? [...new Set(field.values)]
            : (settings.thresholds?.steps ?? []).map((step) => step.value ?? -Infinity);
    return kinds.flatMap((kind, place) => {
        const y = height - 18 * (kinds.length - place) - 6;
        const text =
            kind === -Infinity ? "below" : `${field.type === "string" ? "" : "≥ "}${read(kind, field.type, settings)}`;
        return [
            { type: "circle", shape: { cx: 14, cy: y + 6, r: 5 }, style: { fill: colourOf(kind, settings) } },
            { type: "text", x: 26, y, style: { text, fontSize: 12, fill: small.color } },
        ];
    });
}
