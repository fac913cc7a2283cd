// A value as people read it, in the unit and the colour that its field has.

import type { Value } from "../check/frame.js";
import type { Settings } from "./settings.js";

export const ink = "#24292f";

/** Grafana's palette of series, near enough. */
export const palette = [
    "#3f9c6b",
    "#e3a93b",
    "#3b7dd8",
    "#d9713c",
    "#8460c9",
    "#d64045",
    "#38a3a5",
    "#a5673f",
    "#6b8e23",
    "#c2559c",
];

/** From few to enough. */
const ramp = ["#d64045", "#e3c44c", "#3f9c6b"];

export function read(value: Value, type: string, settings: Settings): string {
    if (value === null) return "";
    const mapped = mapping(value, settings)?.text;
    if (mapped) return mapped;
    if (type === "time" || settings.unit === "dateTimeAsLocal") return clock(Number(value));
    if (typeof value !== "number") return String(value);
    return inUnit(value, settings.unit ?? "short", settings.decimals);
}

/** Times are shown on the clocks of Paris, whatever machine draws. */
export function clock(milliseconds: number, short = false): string {
    const whole = new Date(milliseconds).toLocaleString("sv-SE", { timeZone: "Europe/Paris" });
    return short ? whole.slice(5, 16) : whole.slice(0, 16);
}

export function inUnit(value: number, unit: string, decimals?: number | null): string {
    const digits = (number: number, least = 0) => {
        const most = decimals ?? (Number.isInteger(number) ? 0 : Math.abs(number) < 10 ? 2 : 1);
        return number.toLocaleString("en-GB", {
            maximumFractionDigits: most,
            minimumFractionDigits: decimals ?? least,
        });
    };
    switch (unit) {
        case "percentunit":
            return `${(value * 100).toFixed(decimals ?? 1)} %`;
        case "bytes":
            return scaled(value, 1024, ["B", "KiB", "MiB", "GiB"]);
        case "s":
            if (Math.abs(value) < 1) return `${digits(value * 1000)} ms`;
            return value < 120
                ? `${digits(value)} s`
                : value < 7200
                  ? `${digits(value / 60)} min`
                  : `${digits(value / 3600)} h`;
        case "m":
            return `${digits(value)} min`;
        case "dtdurations":
            return [
                [86400, "d"],
                [3600, "h"],
                [60, "min"],
            ]
                .map(([length, name], place, all) => {
                    const rest = place === 0 ? value : value % Number(all[place - 1]?.[0]);
                    return Math.floor(rest / Number(length)) > 0 ? `${Math.floor(rest / Number(length))} ${name}` : "";
                })
                .join(" ")
                .trim();
        case "opm":
            return `${digits(value)}/min`;
        case "rowsps":
            return `${digits(value)} rows/s`;
        case "none":
            return digits(value);
        case "short":
            return Math.abs(value) < 100_000 ? digits(value) : scaled(value, 1000, ["", "K", "Mil", "Bil"]);
        default:
            throw new Error(`nothing is known of the unit ${unit}`);
    }
}

function scaled(value: number, base: number, names: string[]): string {
    let place = 0;
    while (Math.abs(value) >= base && place < names.length - 1) {
        value /= base;
        place += 1;
    }
    return `${value.toFixed(value < 10 && place > 0 ? 1 : 0)} ${names[place]}`;
}

/** None: as the text around it. */
export function colourOf(value: Value, settings: Settings): string | undefined {
    const mapped = mapping(value, settings)?.color;
    if (mapped) return mapped;
    const { mode, fixedColor } = settings.color ?? {};
    if (mode === "fixed") return fixedColor;
    if (typeof value !== "number") return undefined;
    if (mode === "continuous-RdYlGr")
        return blend((value - (settings.min ?? 0)) / ((settings.max ?? 1) - (settings.min ?? 0)));
    const reached = (settings.thresholds?.steps ?? []).filter((step) => step.value === null || value >= step.value);
    const colour = reached.at(-1)?.color;
    return colour === "text" ? undefined : colour;
}

function mapping(value: Value, settings: Settings): { text?: string; color?: string } | undefined {
    for (const one of settings.mappings ?? []) {
        const found = one.type === "value" ? (one.options as Record<string, object>)[String(value)] : undefined;
        if (found) return found;
    }
    return undefined;
}

function blend(share: number): string {
    const at = Math.min(Math.max(share, 0), 1) * (ramp.length - 1);
    const [low, high] = [ramp[Math.floor(at)] ?? "", ramp[Math.ceil(at)] ?? ""];
    const channel = (colour: string, place: number) => parseInt(colour.slice(1 + 2 * place, 3 + 2 * place), 16);
    const mixed = [0, 1, 2].map(
        (place) => channel(low, place) + (channel(high, place) - channel(low, place)) * (at % 1),
    );
    return `rgb(${mixed.map(Math.round).join(",")})`;
}

export function escape(text: string): string {
    return text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}
