// Writes the dashboards as the files that Grafana reads; with `--check`, says whether they are current.

import { existsSync, readFileSync, writeFileSync } from "node:fs";

import { dashboards } from "./all.js";

const check = process.argv.includes("--check");
let stale = 0;
for (const [name, dashboard] of Object.entries(dashboards)) {
    const path = `grafana/${name}.json`;
    const text = JSON.stringify(dashboard, null, 2) + "\n";
    if (existsSync(path) && readFileSync(path, "utf8") === text) continue;
    stale += 1;
    if (!check) writeFileSync(path, text);
    console.log(check ? `${path} is not what source/ makes: npm run write` : `${path} written`);
}
process.exitCode = check && stale > 0 ? 1 : 0;
