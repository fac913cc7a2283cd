// The kinds of panels that the dashboards use, each with the settings that they share here.
//
// Whoever adds a panel must say what it is, in which unit, and what it shows when there is nothing to show.

import {
    AxisPlacement,
    BarGaugeDisplayMode,
    BarGaugeNamePlacement,
    BarGaugeSizing,
    BarGaugeValueMode,
    BigValueColorMode,
    BigValueGraphMode,
    BigValueJustifyMode,
    BigValueTextMode,
    FieldColorModeId,
    FrameGeometrySourceMode,
    GraphDrawStyle,
    LegendDisplayMode,
    LineInterpolation,
    PercentChangeColorMode,
    SortOrder,
    StackingMode,
    TableCellDisplayMode,
    TableCellHeight,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
    type FieldConfig,
    type Panel,
} from "@grafana/schema";
import type { Options as BarChartOptions } from "@grafana/schema/dist/esm/raw/composable/barchart/panelcfg/x/BarChartPanelCfg_types.gen.js";
import type { Options as BarGaugeOptions } from "@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen.js";
import type { Options as GeomapOptions } from "@grafana/schema/dist/esm/raw/composable/geomap/panelcfg/x/GeomapPanelCfg_types.gen.js";
import type { Options as StatOptions } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen.js";
import type { Options as HistoryOptions } from "@grafana/schema/dist/esm/raw/composable/statushistory/panelcfg/x/StatusHistoryPanelCfg_types.gen.js";
import type { Options as TableOptions } from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen.js";
import type {
    FieldConfig as SeriesConfig,
    Options as SeriesOptions,
} from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen.js";

import { named, type Query } from "./data.js";
import type { Override } from "./field.js";
import { blue, byThresholds, steps } from "./palette.js";

/** What every panel says of itself. */
export interface About {
    title: string;
    description: string;
    /** What stands there when there is nothing to show. */
    empty: string;
    /** The unit of its values, as Grafana names it; fields of other units say so. */
    unit: string;
    queries: Omit<Query, "refId">[];
    fields?: Override[];
    /** What else holds for all its fields. */
    defaults?: FieldConfig;
    /** Looks back so far, whatever is chosen for the dashboard. */
    last?: string;
    /** The shortest step between points, of panels over time. */
    interval?: string;
}

function panel<Options extends object>(type: string, about: About, options: Options, defaults: FieldConfig): Panel {
    const queries = named(about.queries);
    return {
        type,
        title: about.title,
        description: about.description,
        datasource: queries[0]?.datasource,
        targets: queries,
        interval: about.interval,
        timeFrom: about.last,
        fieldConfig: {
            defaults: { unit: about.unit, noValue: about.empty, ...defaults, ...about.defaults },
            overrides: about.fields ?? [],
        },
        options: options as Record<string, unknown>,
    };
}

/** Large figures: one for each column of the only row, or for each series. */
export function figures(about: About, of: "columns" | "series" = "columns"): Panel {
    const options: StatOptions = {
        reduceOptions: { calcs: ["lastNotNull"], fields: of === "columns" ? "/.*/" : "", values: false },
        orientation: VizOrientation.Auto,
        colorMode: BigValueColorMode.Value,
        graphMode: BigValueGraphMode.None,
        justifyMode: BigValueJustifyMode.Center,
        textMode: BigValueTextMode.ValueAndName,
        percentChangeColorMode: PercentChangeColorMode.Standard,
        showPercentChange: false,
        wideLayout: false,
    };
    return panel("stat", about, options, { color: byThresholds, thresholds: steps("text"), decimals: 0 });
}

export function table(about: About, sortBy?: { column: string; descending?: boolean }): Panel {
    const options: TableOptions = {
        frameIndex: 0,
        showHeader: true,
        cellHeight: TableCellHeight.Sm,
        sortBy: sortBy && [{ displayName: sortBy.column, desc: sortBy.descending ?? false }],
    };
    const custom = { cellOptions: { type: TableCellDisplayMode.Auto }, inspect: false, filterable: false };
    return panel("table", about, options, { color: byThresholds, thresholds: steps("text"), custom });
}

/** A place on the map for each row, by its columns `lat` and `lon`. */
export function map(about: About, colour: string, size?: { column: string; from: number; to: number }): Panel {
    const options: GeomapOptions = {
        view: { id: "fit", allLayers: true, padding: 5 },
        controls: { mouseWheelZoom: true, showZoom: true, showAttribution: true, showScale: true },
        tooltip: { mode: "details" as GeomapOptions["tooltip"]["mode"] },
        basemap: { type: "carto", name: "streets", config: { theme: "auto", showLabels: true } },
        layers: [
            {
                type: "markers",
                name: about.title,
                tooltip: true,
                location: { mode: FrameGeometrySourceMode.Coords, latitude: "lat", longitude: "lon" },
                config: {
                    showLegend: true,
                    style: {
                        color: { field: colour, fixed: blue },
                        opacity: 0.8,
                        size: size
                            ? { field: size.column, fixed: 5, min: size.from, max: size.to }
                            : { fixed: 5, min: 2, max: 15 },
                        symbol: { mode: "fixed", fixed: "img/icons/marker/circle.svg" },
                        symbolAlign: { horizontal: "center", vertical: "center" },
                    },
                },
            },
        ],
    };
    return panel("geomap", about, options, { color: byThresholds, thresholds: steps(blue) });
}

/** Lines over time. */
export function lines(
    about: About,
    style: Partial<SeriesConfig> = {},
    legend: "below" | "right" | "none" = "below",
): Panel {
    const options: SeriesOptions = {
        legend: {
            displayMode: legend === "right" ? LegendDisplayMode.Table : LegendDisplayMode.List,
            placement: legend === "right" ? "right" : "bottom",
            showLegend: legend !== "none",
            calcs: legend === "right" ? ["lastNotNull"] : [],
            sortBy: legend === "right" ? "Last *" : undefined,
            sortDesc: legend === "right" ? true : undefined,
        },
        tooltip: { mode: TooltipDisplayMode.Multi, sort: SortOrder.Descending },
    };
    const custom: SeriesConfig = {
        drawStyle: GraphDrawStyle.Line,
        lineInterpolation: LineInterpolation.Linear,
        lineWidth: 2,
        fillOpacity: 0,
        axisSoftMin: 0,
        ...style,
    };
    return panel("timeseries", about, options, {
        color: { mode: FieldColorModeId.PaletteClassic },
        custom: custom as Record<string, unknown>,
    });
}

/** Bars over time, on top of each other. */
export function stacked(about: About): Panel {
    return lines(about, {
        drawStyle: GraphDrawStyle.Bars,
        fillOpacity: 80,
        lineWidth: 0,
        stacking: { mode: StackingMode.Normal, group: "A" },
    });
}

/** A lying bar for each row: the name in its first column, the value in the second. */
export function bars(about: About): Panel {
    const options: BarGaugeOptions = {
        reduceOptions: { calcs: ["lastNotNull"], fields: "", values: true },
        orientation: VizOrientation.Horizontal,
        displayMode: BarGaugeDisplayMode.Basic,
        valueMode: BarGaugeValueMode.Color,
        namePlacement: BarGaugeNamePlacement.Left,
        sizing: BarGaugeSizing.Manual,
        minVizHeight: 14,
        maxVizHeight: 22,
        minVizWidth: 8,
        showUnfilled: true,
        legend: { displayMode: LegendDisplayMode.List, placement: "bottom", showLegend: false, calcs: [] },
    };
    return panel("bargauge", about, options, { color: byThresholds, thresholds: steps(blue), min: 0 });
}

/** Standing bars, a group for each row: its name in the column `x`, a bar for each other column. */
export function columns(about: About, x: string, stacking = StackingMode.None): Panel {
    const options: BarChartOptions = {
        xField: x,
        orientation: VizOrientation.Vertical,
        barWidth: 0.9,
        groupWidth: 0.8,
        fullHighlight: false,
        showValue: VisibilityMode.Never,
        stacking,
        xTickLabelMaxLength: 16,
        xTickLabelRotation: 0,
        xTickLabelSpacing: 100,
        legend: { displayMode: LegendDisplayMode.List, placement: "bottom", showLegend: true, calcs: [] },
        tooltip: { mode: TooltipDisplayMode.Multi, sort: SortOrder.None },
    };
    const custom = { lineWidth: 0, fillOpacity: 85, axisPlacement: AxisPlacement.Auto };
    return panel("barchart", about, options, { color: { mode: FieldColorModeId.PaletteClassic }, custom });
}

/** A line of coloured cells for each series, a cell for each point in time. */
export function cells(about: About, perPage: number): Panel {
    const options: HistoryOptions = {
        showValue: VisibilityMode.Never,
        rowHeight: 0.9,
        colWidth: 1,
        perPage,
        legend: { displayMode: LegendDisplayMode.List, placement: "bottom", showLegend: true, calcs: [] },
        tooltip: { mode: TooltipDisplayMode.Single, sort: SortOrder.None },
    };
    return panel("status-history", about, options, { color: byThresholds, custom: { lineWidth: 0, fillOpacity: 85 } });
}
