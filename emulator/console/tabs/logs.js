// What all workers write.

import { remove } from "../api.js";
import { download, fill, h, moment, select } from "../dom.js";

const SHOWN = 1_500;

/** @param {any} line @param {string} [search] @param {boolean} [here] */
export function logLine(line, search = "", here = false) {
  const level = line.level ?? (line.stream === "stderr" ? "stderr" : "");
  const tone = /ERROR/.test(level) ? "bad" : /WARN/.test(level) ? "warn" : "";
  const at = search ? line.text.toLowerCase().indexOf(search) : -1;
  const text = at < 0 ? [line.text] : [line.text.slice(0, at), h("mark", {}, line.text.slice(at, at + search.length)), line.text.slice(at + search.length)];
  return h("div", { class: `${tone}${here ? " here" : ""}` }, h("span", { class: "quiet" }, `${moment(line.at_ms)} ${line.worker_id} ${level.padEnd(5)} `), ...text);
}

/** @param {HTMLElement} place @param {import("../main.js").Page} page @returns {import("../main.js").Shown} */
export function show(place, page) {
  const { store, options } = page;
  const search = h("input", { type: "search", "data-search": true, placeholder: "Search  ( / )", "aria-label": "Search the logs", oninput: () => draw() });
  const level = select({ "aria-label": "Level", onchange: () => draw() }, ["All levels", "DEBUG", "INFO", "WARN", "ERROR", "stderr"]);
  const worker = h("input", { placeholder: "Worker", "aria-label": "Worker", size: 16, value: options.get("worker") ?? "", oninput: () => draw() });
  // In context: all lines, those of the job marked.
  const job = options.get("job") ?? "";
  const alone = h("input", { type: "checkbox", onchange: () => draw() });
  const follow = h("button", { type: "button", "aria-pressed": "true", onclick: () => { following = !following; follow.setAttribute("aria-pressed", String(following)); follow.textContent = following ? "Following" : "Paused"; if (following) draw(); } }, "Following");
  let following = true;
  const log = h("div", { class: "log tall", tabindex: 0, role: "log", "aria-label": "Logs", "aria-live": "off" });
  const count = h("span", { class: "quiet" });
  const wanted = () => {
    const text = search.value.toLowerCase();
    return store.lines.filter((line) => (!text || line.text.toLowerCase().includes(text)) && (!worker.value || line.worker_id.startsWith(worker.value)) && (!alone.checked || line.job_id === job)
      && (level.value === "All levels" || (level.value === "stderr" ? line.stream === "stderr" : line.level === level.value)));
  };
  function draw() {
    const lines = wanted();
    const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 40;
    fill(log, lines.length ? lines.slice(-SHOWN).map((line) => logLine(line, search.value.toLowerCase(), job !== "" && line.job_id === job)) : h("p", { class: "quiet" }, "Nothing was written yet. Worker processes' output appears here, line by line."));
    count.textContent = lines.length > SHOWN ? `the last ${SHOWN} of ${lines.length} lines` : `${lines.length} lines`;
    if (following && (atEnd || !job)) log.scrollTop = log.scrollHeight;
  }
  fill(place, h("section", { class: "panel", "aria-label": "Logs" }, h("div", { class: "head" }, h("h2", {}, "Logs"), search, level, worker, job && h("label", { class: "field line" }, alone, h("span", {}, `only job ${job.slice(0, 8)}…`)), count,
    h("div", { class: "end" }, follow, h("button", { type: "button", onclick: () => download(wanted().map((line) => `${moment(line.at_ms)} ${line.worker_id} ${line.text}`).join("\n"), "workers.log", "text/plain") }, "Download"),
      h("button", { class: "danger", type: "button", onclick: () => page.attempt(async () => { await remove("/logs"); store.lines = []; draw(); }) }, "Clear"))), log));
  draw();
  if (job) requestAnimationFrame(() => log.querySelector(".here")?.scrollIntoView({ block: "center" }));
  return { changed: (topics) => { if (following && topics.has("logs")) draw(); } };
}
