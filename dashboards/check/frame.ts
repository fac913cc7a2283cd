// An answer to a query, by columns, whichever data source gave it.

export type Value = number | string | boolean | null;

export interface Field {
    name: string;
    /** Times are numbers: milliseconds since 1970. */
    type: "time" | "number" | "string" | "boolean";
    labels?: Record<string, string>;
    values: Value[];
}

export interface Frame {
    fields: Field[];
}

export function rowCount(frame: Frame): number {
    return frame.fields[0]?.values.length ?? 0;
}
