// Draws dashboards with what is in these databases, to be looked at without Grafana: a page and, where there is a
// Chromium, a picture of each. Not what Grafana draws to the pixel: what it is asked to draw.
//
//   npm run draw -- --postgres URL [--prometheus URL] [--minutes N] [--out FOLDER] [NAME…]

import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { parseArgs } from "node:util";

import { ask, open } from "../check/answers.js";
import { dashboards } from "../source/all.js";
import { page, width } from "./page.js";

const browsers = [process.env["CHROMIUM"] ?? "", "chromium", "chromium-browser", "google-chrome"];

const { values: options, positionals: names } = parseArgs({
    allowPositionals: true,
    options: {
        postgres: { type: "string" },
        prometheus: { type: "string" },
        minutes: { type: "string" },
        out: { type: "string", default: "pictures" },
    },
});
if (!options.postgres) {
    console.error("usage: npm run draw -- --postgres URL [--prometheus URL] [--minutes N] [--out FOLDER] [NAME…]");
    process.exit(2);
}

mkdirSync(options.out, { recursive: true });
const browser = browsers.find((name) => name !== "" && spawnSync(name, ["--version"]).status === 0);
if (!browser) console.log("skipped: pictures, for want of a Chromium; there are the pages");
const sources = await open(options.postgres, options.prometheus, options.minutes ? Number(options.minutes) : undefined);
for (const [name, dashboard] of Object.entries(dashboards)) {
    if (names.length > 0 && !names.includes(name)) continue;
    const { html, height } = page(dashboard, await ask(dashboard, sources));
    const path = resolve(options.out, name);
    writeFileSync(`${path}.html`, html);
    if (browser) shoot(browser, path, height);
    console.log(`${path}.${browser ? "png" : "html"}`);
}
await sources.postgres.end();

function shoot(browser: string, path: string, height: number): void {
    const sandbox = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
    const flags = ["--headless", "--hide-scrollbars", "--disable-gpu", ...sandbox, `--window-size=${width},${height}`];
    const shot = spawnSync(browser, [...flags, `--screenshot=${path}.png`, `file://${path}.html`], {
        encoding: "utf8",
    });
    if (shot.status !== 0) throw new Error(`${browser} drew no ${path}.png: ${shot.stderr}`);
}
