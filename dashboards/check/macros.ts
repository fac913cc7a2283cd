// Grafana's macros and variables, expanded as Grafana does: those that the dashboards use, and no others.
//
// A macro that is not known here is an error. One that nobody uses any more is found by `unused`, so that this stays
// what is needed.

/** What a dashboard is looked at with. */
export interface View {
    from: Date;
    to: Date;
    /** Seconds between the points of a panel over time. */
    interval: number;
    /** Seconds between two scrapes of Prometheus. */
    scrapeInterval: number;
    variables: Map<string, Choice>;
}

/** What is chosen of a variable. */
export interface Choice {
    texts: string[];
    values: string[];
}

const used = new Set<string>();

/** As PostgreSQL's data source does: times are literals in UTC. */
const sqlMacros: Record<string, (view: View, args: string[]) => string> = {
    timeFilter: (view, [column]) => `${column} BETWEEN ${literal(view.from)} AND ${literal(view.to)}`,
    timeFrom: (view) => literal(view.from),
    timeTo: (view) => literal(view.to),
    timeGroup: (_view, [column, interval]) => grouped(column ?? "", interval ?? ""),
    timeGroupAlias: (_view, [column, interval]) => `${grouped(column ?? "", interval ?? "")} AS "time"`,
};

/** Replaced in all queries before the data source sees them. */
const everywhere: Record<string, (view: View) => string> = {
    interval: (view) => duration(view.interval),
};

/** Prometheus' own. Its interval is that of four scrapes at least. */
const promMacros: Record<string, (view: View) => string> = {
    rate_interval: ({ interval, scrapeInterval }) => duration(Math.max(interval + scrapeInterval, 4 * scrapeInterval)),
};

export function expandSql(text: string, view: View): string {
    const simple = expandWords(withVariables(text, view, "raw"), everywhere, view, true);
    return simple.replace(/\$__(\w+)\(([^()]*)\)/g, (all, name: string, args: string) => {
        const macro = sqlMacros[name];
        if (!macro) throw new Error(`the macro ${all} is not known`);
        used.add(name);
        return macro(
            view,
            args.split(",").map((arg) => arg.trim()),
        );
    });
}

export function expandProm(text: string, view: View): string {
    const simple = withVariables(text, view, "prometheus");
    return expandWords(simple, { ...everywhere, ...promMacros }, view, false);
}

/** Titles, with what is chosen as people read it. */
export function expandTitle(text: string, view: View): string {
    return text.replace(/\$(\w+)/g, (all, name: string) => view.variables.get(name)?.texts.join(" + ") ?? all);
}

/** The macros that no query has used. */
export function unused(): string[] {
    const known = [...Object.keys(sqlMacros), ...Object.keys(everywhere), ...Object.keys(promMacros)];
    return known.filter((name) => !used.has(name));
}

function expandWords(
    text: string,
    macros: Record<string, (view: View) => string>,
    view: View,
    functions: boolean,
): string {
    return text.replace(/\$__(\w+)(\(?)/g, (all, name: string, open: string) => {
        const macro = macros[name];
        if (macro && open === "") {
            used.add(name);
            return macro(view);
        }
        if (functions && open !== "") return all;
        throw new Error(`the macro ${all} is not known`);
    });
}

/** `$name`, `${name}` and `${name:format}`; data sources have a format of their own where none is given. */
function withVariables(text: string, view: View, ownFormat: "raw" | "prometheus"): string {
    const variable = /\$(?:(?!__)(\w+)|\{(\w+)(?::(\w+))?\})/g;
    return text.replace(variable, (all, bare: string | undefined, braced: string, format = ownFormat) => {
        const choice = view.variables.get(bare ?? braced);
        if (!choice) throw new Error(`the variable ${all} is not known`);
        switch (format) {
            case "raw":
                if (choice.values.length !== 1)
                    throw new Error(`${all} has ${choice.values.length} values and no format`);
                return choice.values[0] ?? "";
            case "sqlstring":
                return choice.values.map((value) => `'${value.replaceAll("'", "''")}'`).join(",");
            case "prometheus":
                // A regular expression inside of a string: backslashes are doubled.
                return `(${choice.values.map((value) => value.replace(/[.*+?^${}()|[\]\\]/g, "\\\\$&")).join("|")})`;
            default:
                throw new Error(`the format of ${all} is not known`);
        }
    });
}

function literal(time: Date): string {
    return `'${time.toISOString()}'`;
}

function grouped(column: string, interval: string): string {
    const [, count, unit] = /^'?(\d+)([smhd])'?$/.exec(interval) ?? [];
    const seconds = { s: 1, m: 60, h: 3600, d: 86400 }[unit ?? ""];
    if (!count || !seconds) throw new Error(`'${interval}' is no interval`);
    const length = Number(count) * seconds;
    return `floor(extract(epoch from ${column})/${length})*${length}`;
}

function duration(seconds: number): string {
    if (seconds % 3600 === 0) return `${seconds / 3600}h`;
    if (seconds % 60 === 0) return `${seconds / 60}m`;
    return `${seconds}s`;
}
