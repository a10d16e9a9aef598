// Bundles what the console needs from npm into emulator/console/vendor, with the licences: `make console`.
// With --check it writes nothing, and fails if what is there is not what it would write.
import { build } from "esbuild";
import { readFileSync, writeFileSync, readdirSync, existsSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const here = dirname(fileURLToPath(import.meta.url));
const place = join(here, "../emulator/console/vendor");
const check = process.argv.includes("--check");
const BUDGET = 200_000;

/** @type {Map<string, string>} */
const files = new Map();
const packages = new Set();
for (const name of ["editor", "charts"]) {
  const made = await build({
    entryPoints: [join(here, `${name}.mjs`)],
    bundle: true, minify: true, format: "esm", target: "es2022", write: false, metafile: true,
    legalComments: "none", absWorkingDir: here,
    banner: { js: `// Made by \`make console\` from console/${name}.mjs; licences in LICENSES.txt.` },
  });
  files.set(`${name}.js`, made.outputFiles[0].text);
  for (const input of Object.keys(made.metafile.inputs)) {
    const found = input.match(/node_modules\/((?:@[^/]+\/)?[^/]+)\//);
    if (found) packages.add(found[1]);
  }
}
files.set("charts.css", readFileSync(join(here, "node_modules/uplot/dist/uPlot.min.css"), "utf8"));
files.set("LICENSES.txt", [...packages].sort().map((name) => {
  const folder = join(here, "node_modules", name);
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
  const text = file ? readFileSync(join(folder, file), "utf8").trim() : "";
  return `${name} ${version} (${license})\n\n${text}\n`;
}).join(`\n${"-".repeat(80)}\n\n`));

mkdirSync(place, { recursive: true });
let stale = [];
for (const [name, text] of files) {
  const path = join(place, name);
  if (check) {
    if (!existsSync(path) || readFileSync(path, "utf8") !== text) stale.push(name);
  } else writeFileSync(path, text);
}
if (stale.length) {
  console.error(`emulator/console/vendor is not current (${stale.join(", ")}): run make console`);
  process.exit(1);
}

const folder = join(here, "../emulator/console");
const sizes = readdirSync(folder, { recursive: true, withFileTypes: true })
  .filter((each) => each.isFile() && /\.(js|css|html|svg)$/.test(each.name))
  .map((each) => gzipSync(readFileSync(join(each.parentPath, each.name))).length);
const total = sizes.reduce((sum, size) => sum + size, 0);
console.log(`the console: ${sizes.length} files, ${(total / 1000).toFixed(1)} kB gzipped`);
if (total > BUDGET) {
  console.error(`that is above ${BUDGET / 1000} kB`);
  process.exit(1);
}
