// Figures over time.

import { get } from "../api.js";
import { chart } from "../charts.js";
import { duration, fill, h, select } from "../dom.js";

const WINDOWS = /** @type {[string, string][]} */ ([["60", "Last minute"], ["300", "Last 5 minutes"], ["3600", "Last hour"], ["86400", "Last day"]]);
const EVERY_MS = 2_000;

/** @param {HTMLElement} place @param {import("../main.js").Page} page @returns {import("../main.js").Shown} */
export function show(place, page) {
  const charts = h("div", { class: "columns" });
  const totals = h("div", { class: "figures" });
  const answers = h("div", { class: "shares" });
  /** @type {ReturnType<typeof chart>[]} */
  let made = [];
  let asking = false;
  const over = select({ "aria-label": "Window", onchange: () => { void draw(true); } }, WINDOWS, page.options.get("window") ?? "300");
  fill(place, h("div", { class: "row" }, over, h("small", {}, "The same figures: "), h("a", { href: "/_emulator/metrics" }, "Prometheus")), totals, charts);

  async function draw(anew = false) {
    if (asking || document.hidden) return;
    asking = true;
    try {
      const figures = await get(`/endpoints/${encodeURIComponent(page.endpoint)}/charts?window_s=${over.value}&points=60`);
      const words = /** @type {Record<string, string>} */ ({ submitted: "Submitted", completed: "Completed", failed: "Failed", cancelled: "Cancelled", timed_out: "Timed out", requeued: "Retried" });
      fill(answers, answersView(figures.webhooks));
      fill(totals, Object.entries(words).map(([name, label]) => h("div", { class: "panel figure" }, h("b", {}, figures.totals[name]), h("span", { class: "quiet" }, label))));
      const percentiles = (/** @type {any} */ of) => [{ label: "P70", values: of.p70, colour: "green" }, { label: "P90", values: of.p90, colour: "amber" }, { label: "P98", values: of.p98, colour: "red" }];
      /** @type {[string, import("../charts.js").Line[], (value: number) => string][]} */
      const wanted = [
        ["Requests", [{ label: "Completed", values: figures.ended.completed, colour: "green", fill: true }, { label: "Failed", values: figures.ended.failed, colour: "red" }, { label: "Cancelled", values: figures.ended.cancelled, colour: "quiet" }, { label: "Timed out", values: figures.ended.timed_out, colour: "amber" }, { label: "Retried", values: figures.requeued, colour: "blue" }], round],
        ["Execution time", percentiles(figures.execution_ms), duration], ["Delay time", percentiles(figures.delay_ms), duration],
        ["Workers", [{ label: "Running", values: figures.workers.running, colour: "blue", fill: true }, { label: "Idle", values: figures.workers.idle, colour: "green" }, { label: "Initializing", values: figures.workers.initializing, colour: "amber" }, { label: "Throttled", values: figures.workers.throttled, colour: "quiet" }, { label: "Unhealthy", values: figures.workers.unhealthy, colour: "red" }], round],
        ["Cold start time", percentiles(figures.cold_start_ms), duration], ["Cold starts", [{ label: "Cold starts", values: figures.cold_starts, colour: "amber", fill: true }], round],
      ];
      if (anew || !made.length) {
        made.forEach((each) => each.close());
        const places = wanted.map(([title]) => h("section", { class: "panel", "aria-label": title }, h("div", { class: "head" }, h("h2", {}, title))));
        fill(charts, places, h("section", { class: "panel", "aria-label": "Webhooks' answers" }, h("div", { class: "head" }, h("h2", {}, "Webhooks' answers")), answers));
        made = wanted.map(([title, lines, shown], i) => {
          const one = chart(title, figures.at_ms, lines, shown, Math.max(280, places[i].clientWidth - 20));
          places[i].append(one.element);
          return one;
        });
      } else wanted.forEach(([, lines], i) => made[i].update(figures.at_ms, lines.map((line) => line.values)));
    } finally { asking = false; }
  }
  draw(true).catch(() => {});
  const ticking = setInterval(() => draw().catch(() => {}), EVERY_MS);
  const resized = () => { draw(true).catch(() => {}); };
  addEventListener("resize", resized);
  return { left: () => { clearInterval(ticking); removeEventListener("resize", resized); made.forEach((each) => each.close()); } };
}

/** How many calls had which answer. @param {Record<string, number>} counts by status, or "failed" without one */
function answersView(counts) {
  const all = Object.values(counts).reduce((sum, each) => sum + each, 0);
  if (!all) return [h("span", { class: "quiet" }, "None was called yet.")];
  return Object.entries(counts).sort().flatMap(([answer, count]) => {
    const label = answer === "failed" ? "No answer" : answer;
    return [h("span", {}, label), h("meter", { min: 0, max: all, value: count, "aria-label": `${label}: ${count} of ${all}` }), h("b", {}, count)];
  });
}

/** @param {number} value */
const round = (value) => (Number.isInteger(value) ? String(value) : value.toFixed(1));
