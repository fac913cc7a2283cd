// The dashboards, in the order in which people look at them.

import type { Dashboard } from "@grafana/schema";

import { areas } from "./areas.js";
import { criticalStations } from "./critical.js";
import { engine } from "./engine.js";
import { stations } from "./stations.js";
import { trendsOfStations } from "./trends.js";

/** By the names of their files in `grafana/`. */
export const dashboards: Record<string, Dashboard> = {
    stations,
    areas,
    critical: criticalStations,
    trends: trendsOfStations,
    engine,
};
