// Checks every dashboard: how its panels lie and what they say of themselves, and that each of their queries has an
// answer in these databases.
//
//   npm run check -- --postgres URL --prometheus URL [--minutes N]

import { parseArgs } from "node:util";

import { dashboards } from "../source/all.js";
import { ask, open } from "./answers.js";
import { faults as faultsOfContent } from "./content.js";
import { faults as faultsOfForm } from "./form.js";
import { unused } from "./macros.js";

const { values: options } = parseArgs({
    options: { postgres: { type: "string" }, prometheus: { type: "string" }, minutes: { type: "string" } },
});
if (!options.postgres || !options.prometheus) {
    console.error("usage: npm run check -- --postgres URL --prometheus URL [--minutes N]");
    process.exit(2);
}

const uids = new Set(Object.values(dashboards).map((dashboard) => String(dashboard.uid)));
const sources = await open(options.postgres, options.prometheus, options.minutes ? Number(options.minutes) : undefined);
let wrong = 0;
const complain = (dashboard: string, what: string) => {
    wrong += 1;
    console.log(`${dashboard}: ${what}`);
};
for (const dashboard of Object.values(dashboards)) {
    const title = String(dashboard.title);
    for (const fault of faultsOfForm(dashboard, uids)) complain(title, fault);
    const answered = await ask(dashboard, sources).catch((error: Error) => {
        complain(title, error.message);
        return [];
    });
    for (const one of answered) {
        for (const fault of faultsOfContent(one)) complain(title, `${one.title}: ${fault}`);
    }
    const queries = answered.reduce((sum, one) => sum + one.answers.length, 0);
    console.log(`${title}: ${answered.length} panels, ${queries} queries`);
}
for (const macro of unused()) complain("macros.ts", `nobody uses $__${macro}`);
await sources.postgres.end();
if (wrong > 0) console.log(`${wrong} faults`);
process.exitCode = wrong > 0 ? 1 : 0;
