// The workers: their state, what they take, what they write, and what can be done to them.

import { get, post } from "../api.js";
import { badge, duration, fill, h, size } from "../dom.js";
import { logLine } from "./logs.js";
import { settingsForm } from "./overview.js";

const EVERY_MS = 2_000;

/** @param {HTMLElement} place @param {import("../main.js").Page} page @returns {import("../main.js").Shown} */
export function show(place, page) {
  const { store } = page;
  const rows = h("tbody");
  const told = h("p", { class: "error-text" });
  /** CPU seconds and when they were read, by worker. @type {Map<string, {cpu_s: number, at: number, share: number | null}>} */
  const used = new Map();
  /** @type {any[]} */
  let measured = [];
  const chosen = page.path[0];
  const log = h("div", { class: "log", tabindex: 0, role: "log", "aria-label": `Log of worker ${chosen}`, "aria-live": "off" });
  const view = store.endpoints.find((each) => each.id === page.endpoint);
  fill(place, h("section", { class: "panel", "aria-label": "Workers" }, h("div", { class: "head" }, h("h2", {}, "Workers"), told),
    h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["Worker", "State", "Uptime", "Jobs", "Process", "Memory", "CPU", "Actions"].map((each) => h("th", {}, each)))), rows))),
    chosen && h("section", { class: "panel", "aria-label": "Log" }, h("div", { class: "head" }, h("h2", {}, "Log of ", h("span", { class: "mono" }, chosen)), h("div", { class: "end" }, h("a", { href: page.link(`logs?worker=${chosen}`) }, "All of it"))), log),
    h("section", { class: "panel", "aria-label": "Settings" }, h("div", { class: "head" }, h("h2", {}, "Settings"), h("small", {}, "changed while it runs")), h("div", { class: "body" }, settingsForm(page, view))));

  const act = (/** @type {string} */ id, /** @type {string} */ action) => page.attempt(async () => { await post(`/workers/${encodeURIComponent(id)}/${action}`); await store.loadWorkers(); });
  function draw() {
    told.textContent = store.obstacles[page.endpoint] ?? "";
    const workers = store.workers.filter((worker) => worker.endpoint === page.endpoint);
    fill(rows, workers.length ? workers.map((worker) => {
      const usage = measured.find((each) => each.id === worker.id);
      const share = used.get(worker.id)?.share;
      const button = (/** @type {string} */ label, /** @type {string} */ action, shown = true) => shown && h("button", { type: "button", class: action === "kill" ? "danger" : "", "aria-label": `${label} worker ${worker.id}`, onclick: () => act(worker.id, action) }, label);
      const ours = worker.kind !== "external", throttled = worker.state === "throttled";
      return h("tr", {}, h("td", { class: "mono" }, h("a", { href: page.link(`workers/${encodeURIComponent(worker.id)}`) }, worker.id), h("br"), h("small", {}, worker.kind)),
        h("td", {}, badge(worker.state), worker.paused && h("span", { class: "badge warn" }, "paused"), h("br"), h("small", {}, worker.paused ?? worker.reason)),
        h("td", {}, duration(Math.max(0, store.now() - worker.since_ms))), h("td", { class: "mono" }, worker.jobs.length ? worker.jobs.map((/** @type {string} */ id) => h("a", { href: page.link(`requests/${id}`) }, `${id.slice(0, 8)}… `)) : "–"),
        h("td", { class: "number" }, worker.process_id ?? "–"), h("td", { class: "number" }, size(usage?.memory_bytes)), h("td", { class: "number" }, share === null || share === undefined ? "–" : `${Math.round(share * 100)} %`),
        h("td", {}, h("div", { class: "row" }, button("Pause", "pause", !worker.paused && !throttled), button("Resume", "resume", Boolean(worker.paused) || throttled), button("Throttle", "throttle", ours && !throttled && !worker.jobs.length), button("Stop", "stop", ours), button("Kill", "kill", ours && !throttled))));
    }) : h("tr", {}, h("td", { colspan: 8, class: "empty" }, "No worker is up: one starts when a job comes (or set workersMin).")));
  }
  async function measure() {
    if (document.hidden) return;
    measured = (await get("/workers?usage=true")).workers;
    for (const worker of measured) {
      if (worker.cpu_s === null) continue;
      const at = performance.now(), before = used.get(worker.id);
      used.set(worker.id, { cpu_s: worker.cpu_s, at, share: before ? Math.max(0, (worker.cpu_s - before.cpu_s) / ((at - before.at) / 1000)) : null });
    }
    draw();
  }
  async function readLog() {
    if (!chosen) return;
    const { lines } = await get(`/workers/${encodeURIComponent(chosen)}/logs`).catch(() => ({ lines: [] }));
    fill(log, lines.length ? lines.slice(-300).map((/** @type {any} */ line) => logLine(line)) : h("p", { class: "quiet" }, "It has written nothing."));
    log.scrollTop = log.scrollHeight;
  }
  draw();
  measure().catch(() => {});
  readLog().catch(() => {});
  const ticking = setInterval(() => measure().catch(() => {}), EVERY_MS);
  return { changed: (topics) => { if (topics.has("workers")) draw(); if (topics.has("logs")) store.refresh("log", readLog); }, left: () => clearInterval(ticking) };
}
