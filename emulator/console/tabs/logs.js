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
  const anew = () => { drawn = 0; draw(); };
  const search = h("input", { type: "search", "data-search": true, placeholder: "Search  ( / )", "aria-label": "Search the logs", value: options.get("text") ?? "", oninput: anew });
  const level = select({ "aria-label": "Level", onchange: anew }, ["All levels", "DEBUG", "INFO", "WARN", "ERROR", "stderr"]);
  const worker = h("input", { placeholder: "Worker", "aria-label": "Worker", size: 14, value: options.get("worker") ?? "", oninput: anew });
  const job = h("input", { placeholder: "Job", "aria-label": "Job", size: 14, oninput: anew });
  // In context: all lines, those of the job marked.
  const marked = options.get("job") ?? "";
  const alone = h("button", { type: "button", onclick: () => { job.value = marked; anew(); } }, "Only this job");
  const follow = h("button", { type: "button", onclick: () => setFollowing(!following) });
  let following = !marked;
  /** The number of the newest line that is shown. */
  let drawn = 0;
  const log = h("div", { class: "log tall", tabindex: 0, role: "log", "aria-label": "Logs", "aria-live": "off" });
  const count = h("span", { class: "quiet" });
  const isWanted = (/** @type {any} */ line) => {
    const text = search.value.toLowerCase();
    return (!text || line.text.toLowerCase().includes(text)) && (!worker.value || line.worker_id.startsWith(worker.value.trim())) && (!job.value || line.job_id?.startsWith(job.value.trim()))
      && (level.value === "All levels" || (level.value === "stderr" ? line.stream === "stderr" : line.level === level.value));
  };
  /** @param {boolean} now */
  function setFollowing(now) {
    following = now;
    follow.setAttribute("aria-pressed", String(now));
    follow.textContent = now ? "Following" : "Paused: follow";
    if (now) { draw(); log.scrollTop = log.scrollHeight; }
  }
  /** Add the lines that have come; all of them when the filters have changed. */
  function draw() {
    if (!drawn) fill(log);
    const from = drawn ? store.lines.findLastIndex((line) => line.number <= drawn) + 1 : 0;
    const fresh = store.lines.slice(from).filter(isWanted).slice(-SHOWN);
    drawn = store.lines.at(-1)?.number ?? 0;
    if (fresh.length && log.querySelector(".empty")) fill(log);
    log.append(...fresh.map((line) => logLine(line, search.value.toLowerCase(), marked !== "" && line.job_id === marked)));
    while (log.childElementCount > SHOWN) log.firstElementChild?.remove();
    if (!log.childElementCount) fill(log, h("p", { class: "quiet empty" }, store.lines.length ? "No line is like that." : "Nothing was written yet. Worker processes' output appears here, line by line."));
    const lines = log.querySelector(".empty") ? 0 : log.childElementCount;
    count.textContent = lines < SHOWN ? `${lines} lines` : `the last ${SHOWN} lines; Download has all of ${store.lines.filter(isWanted).length}`;
    if (following) log.scrollTop = log.scrollHeight;
  }
  fill(place, h("section", { class: "panel", "aria-label": "Logs" }, h("div", { class: "head" }, h("h2", {}, "Logs"), search, level, worker, job, marked && alone, count,
    h("div", { class: "end" }, follow, h("button", { type: "button", onclick: () => download(store.lines.filter(isWanted).map((line) => `${moment(line.at_ms)} ${line.worker_id} ${line.text}`).join("\n"), "workers.log", "text/plain") }, "Download"),
      h("button", { class: "danger", type: "button", onclick: () => page.attempt(async () => { await remove("/logs"); store.lines = []; anew(); }) }, "Clear"))), log));
  draw();
  setFollowing(following);
  if (marked) requestAnimationFrame(() => log.querySelector(".here")?.scrollIntoView({ block: "center" }));
  // Who scrolls up wants to read.
  log.addEventListener("wheel", (event) => { if (following && event.deltaY < 0) setFollowing(false); }, { passive: true });
  return { changed: (topics) => { if (topics.has("all")) anew(); else if (following && topics.has("logs")) draw(); } };
}
