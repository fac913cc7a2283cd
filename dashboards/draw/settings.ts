// What a panel says of one of its fields: its defaults, and what goes over them for that field.

import type { FieldConfig, Panel } from "@grafana/schema";

import type { Field } from "../check/frame.js";
import { isFor } from "../source/field.js";

export type Settings = FieldConfig & { custom: Record<string, unknown> };

export function settingsOf(panel: Panel, field: Field): Settings {
    const { defaults, overrides } = panel.fieldConfig ?? { defaults: {}, overrides: [] };
    const settings: Settings = { ...defaults, custom: { ...defaults.custom } };
    for (const override of overrides.filter((override) => isFor(override, field.name))) {
        for (const { id, value } of override.properties) {
            if (id.startsWith("custom.")) settings.custom[id.slice("custom.".length)] = value;
            else Object.assign(settings, { [id]: value });
        }
    }
    return settings;
}

export function nameOf(field: Field, settings: Settings): string {
    return settings.displayName ?? field.name;
}
