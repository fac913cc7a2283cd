// What colours mean, the same on every dashboard.

import {
    FieldColorModeId,
    MappingType,
    ThresholdsMode,
    type ThresholdsConfig,
    type ValueMapping,
} from "@grafana/schema";

export const red = "#d64045";
export const orange = "#e8963a";
export const yellow = "#e3c44c";
export const green = "#3f9c6b";
export const teal = "#35a0a3";
export const blue = "#3b7dd8";
export const indigo = "#4b48b8";
export const violet = "#8460c9";
export const grey = "#8e939b";

/** What is wanted (bikes) is red where it lacks; its opposite (docks) is blue. */
const states: Record<string, string> = {
    empty: red,
    low: orange,
    ok: green,
    full: blue,
    closed: grey,
    unknown: grey,
};

/** `station_now.state`, and `kind` of an alarm. */
export const stateColours: ValueMapping[] = [
    {
        type: MappingType.ValueToText,
        options: Object.fromEntries(Object.entries(states).map(([state, color], index) => [state, { color, index }])),
    },
];

/** Statuses of a job. */
export const statusColours: ValueMapping[] = [
    {
        type: MappingType.ValueToText,
        options: {
            running: { color: green, index: 0 },
            finished: { color: blue, index: 1 },
            pending: { color: yellow, index: 2 },
            paused: { color: grey, index: 3 },
            failed: { color: red, index: 4 },
        },
    },
];

/** From a value on, a colour; the first is for everything below. */
export function steps(first: string, ...further: [number, string][]): ThresholdsConfig {
    return {
        mode: ThresholdsMode.Absolute,
        steps: [{ value: null, color: first }, ...further.map(([value, color]) => ({ value, color }))],
    };
}

/** Bikes by bikes and docks, from few bikes to few docks. `occupancy.sql` calls a fifth and less low. */
export const occupancySteps = steps(
    red,
    [0.1, orange],
    [0.2, yellow],
    [0.35, green],
    [0.65, teal],
    [0.8, blue],
    [0.9, indigo],
);

/** A share of stations, or of the time, in which something lacks. */
export const lackSteps = steps(green, [0.05, yellow], [0.15, orange], [0.3, red]);

/** Colour by thresholds, without which mappings and thresholds would not show. */
export const byThresholds = { mode: FieldColorModeId.Thresholds };

export function fixed(color: string) {
    return { mode: FieldColorModeId.Fixed, fixedColor: color };
}
