// How one field (a column, a series) is shown, where it differs from the others of its panel.

import {
    FieldColorModeId,
    TableCellBackgroundDisplayMode,
    TableCellDisplayMode,
    type FieldColor,
    type FieldConfigSource,
    type ThresholdsConfig,
    type ValueMapping,
} from "@grafana/schema";

export type Override = FieldConfigSource["overrides"][number];

export interface Look {
    label?: string;
    unit?: string;
    decimals?: number;
    min?: number;
    max?: number;
    width?: number;
    color?: FieldColor;
    steps?: ThresholdsConfig;
    mappings?: ValueMapping[];
    /** Where a click goes. */
    link?: { title: string; url: string };
    /** In a table: the colour of the value fills its cell, or is that of its text, or a bar as long as the value. */
    cell?: "filled" | "coloured" | "bar";
    /** There for links only. */
    hidden?: boolean;
    /** Settings of the kind of panel. */
    custom?: Record<string, unknown>;
}

const cells = {
    filled: { type: TableCellDisplayMode.ColorBackground, mode: TableCellBackgroundDisplayMode.Basic },
    coloured: { type: TableCellDisplayMode.ColorText },
    bar: { type: TableCellDisplayMode.Gauge, mode: "basic", valueDisplayMode: "text" },
};

/** A field by its name: the alias of a column, the legend of a series. */
export function field(name: string, look: Look): Override {
    return { matcher: { id: "byName", options: name }, properties: properties(look) };
}

/** All fields whose names match. Between slashes, as Grafana takes what is not for the whole of a name. */
export function fields(pattern: RegExp, look: Look): Override {
    return { matcher: { id: "byRegexp", options: `/${pattern.source}/` }, properties: properties(look) };
}

/** Whether the settings are for a field of this name. */
export function isFor({ matcher }: Override, name: string): boolean {
    const pattern = String(matcher.options);
    return matcher.id === "byName" ? name === pattern : new RegExp(pattern.slice(1, -1)).test(name);
}

function properties(look: Look): Override["properties"] {
    const color = look.color ?? (look.steps || look.mappings ? { mode: FieldColorModeId.Thresholds } : undefined);
    const entries: [string, unknown][] = [
        ["displayName", look.label],
        ["unit", look.unit],
        ["decimals", look.decimals],
        ["min", look.min],
        ["max", look.max],
        ["color", color],
        ["thresholds", look.steps],
        ["mappings", look.mappings],
        ["links", look.link && [{ ...look.link, targetBlank: false }]],
        ["custom.cellOptions", look.cell && cells[look.cell]],
        ["custom.width", look.width],
        ["custom.hidden", look.hidden],
        ...Object.entries(look.custom ?? {}).map(([name, value]): [string, unknown] => [`custom.${name}`, value]),
    ];
    return entries.filter(([, value]) => value !== undefined).map(([id, value]) => ({ id, value }));
}
