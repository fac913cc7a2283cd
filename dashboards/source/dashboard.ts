// What all dashboards share: how their panels lie on the grid, their links to each other, their settings.

import {
    DashboardCursorSync,
    type Dashboard,
    type DashboardLink,
    type Panel,
    type RowPanel,
    type VariableModel,
} from "@grafana/schema";

/** Grafana's grid has so many columns; a row of it is 30 pixels high, with 8 pixels between. */
export const width = 24;

/** Panels side by side, as high as each other: each with its width. */
export interface Band {
    height: number;
    panels: [number, Panel][];
}

export function band(height: number, ...panels: [number, Panel][]): Band {
    return { height, panels };
}

/** A heading above what follows. */
export interface Heading {
    heading: string;
}

export interface Outline {
    uid: string;
    title: string;
    description: string;
    /** From when on, as long as nobody chooses otherwise. */
    from: string;
    refresh: string;
    variables: VariableModel[];
    bands: (Band | Heading)[];
}

/** One dashboard after another at the head of each; variables of the same name go along. */
const links: DashboardLink[] = [
    {
        type: "dashboards",
        tags: ["velib"],
        title: "VelibInsight",
        icon: "external link",
        tooltip: "",
        asDropdown: false,
        includeVars: true,
        keepTime: true,
        targetBlank: false,
    },
];

export function dashboard(outline: Outline): Dashboard {
    return {
        uid: outline.uid,
        title: outline.title,
        description: outline.description,
        tags: ["velib"],
        links,
        time: { from: outline.from, to: "now" },
        refresh: outline.refresh,
        timezone: "browser",
        weekStart: "monday",
        graphTooltip: DashboardCursorSync.Crosshair,
        editable: true,
        schemaVersion: 41,
        templating: { list: outline.variables },
        annotations: { list: [] },
        panels: laid(outline.bands),
    };
}

/** From top to bottom and from left to right, so that no panel lies on another. */
function laid(bands: (Band | Heading)[]): (Panel | RowPanel)[] {
    const panels: (Panel | RowPanel)[] = [];
    let y = 0;
    for (const band of bands) {
        if ("heading" in band) {
            const gridPos = { x: 0, y, w: width, h: 1 };
            panels.push({
                type: "row",
                id: panels.length + 1,
                title: band.heading,
                collapsed: false,
                panels: [],
                gridPos,
            });
            y += 1;
            continue;
        }
        let x = 0;
        for (const [w, panel] of band.panels) {
            panels.push({ ...panel, id: panels.length + 1, gridPos: { x, y, w, h: band.height } });
            x += w;
        }
        y += band.height;
    }
    return panels;
}
