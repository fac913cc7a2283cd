// What is wrong with the answers that a panel gets.

import type { Panel } from "@grafana/schema";

import { postgres } from "../source/data.js";
import { isFor } from "../source/field.js";
import type { Answer, Answered } from "./answers.js";
import { rowCount, type Field } from "./frame.js";

export function faults({ panel, answers }: Answered): string[] {
    const found = answers.flatMap((answer) => ofAnswer(answer).map((what) => `query ${answer.query.refId}: ${what}`));
    const fields = answers.flatMap((answer) => answer.frames.flatMap((frame) => frame.fields));
    if (found.length === 0 && panel.datasource?.uid === postgres.uid) found.push(...unmatched(panel, fields));
    return found;
}

function ofAnswer(answer: Answer): string[] {
    if (answer.error) return [answer.error];
    if (!answer.frames.some((frame) => rowCount(frame) > 0)) return ["no rows"];
    const fields = answer.frames.flatMap((frame) => frame.fields);
    const blank = fields.filter((field) => field.values.every((value) => value === null));
    const empty = blank.map((field) => `${field.name} has no value in any row`);
    return [...empty, ...answer.scans.map((table) => `reads all of ${table}: no index serves it`)];
}

/** Settings for fields, and links by fields, that the answer does not have. */
function unmatched(panel: Panel, fields: Field[]): string[] {
    const names = fields.map((field) => field.name);
    const found: string[] = [];
    for (const override of panel.fieldConfig?.overrides ?? []) {
        if (names.some((name) => isFor(override, name))) continue;
        found.push(`nothing is named ${override.matcher.options}, for which there are settings`);
    }
    for (const [, name = ""] of JSON.stringify(panel).matchAll(/__data\.fields\.(\w+)/g)) {
        if (!names.includes(name)) found.push(`a link needs the column ${name}`);
    }
    return found;
}
