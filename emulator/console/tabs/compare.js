// Two jobs side by side.

import { get } from "../api.js";
import { badge, duration, fill, h, moment } from "../dom.js";
import { errorView, valueView } from "../json_view.js";

/** @param {HTMLElement} place @param {import("../main.js").Page} page @returns {import("../main.js").Shown} */
export function show(place, page) {
  const ids = page.path.slice(1, 3);
  void page.attempt(async () => {
    const jobs = await Promise.all(ids.map((id) => get(`/jobs/${id}`)));
    const facts = (/** @type {any} */ job) => [["Submitted", moment(job.submitted_ms)], ["Delay", duration(job.delay_ms)], ["Execution", duration(job.execution_ms)], ["Retries", String(job.retries)], ["Worker", job.worker_id ?? "–"]];
    const same = (/** @type {string} */ key) => JSON.stringify(jobs[0][key]) === JSON.stringify(jobs[1]?.[key]);
    fill(place, h("div", { class: "compare" }, jobs.map((job, i) => {
      const other = facts(jobs[1 - i] ?? job);
      return h("section", { class: "panel", "aria-label": `Job ${job.id}` }, h("div", { class: "head" }, h("h2", { class: "mono" }, h("a", { href: page.link(`requests/${job.id}`) }, job.id)), badge(job.status)),
        h("div", { class: "body stack" },
          h("dl", {}, facts(job).flatMap(([label, value], at) => [h("dt", {}, label), h("dd", { class: value === other[at][1] ? "mono" : "mono differs" }, value)])),
          h("h3", {}, `Input${same("input") ? " (the same)" : " (differs)"}`), valueView(job.input, `${job.id}-input`),
          h("h3", {}, `Output${same("output") ? " (the same)" : " (differs)"}`), job.error !== null && errorView(job.error), job.output !== null && valueView(job.output, job.id)));
    })));
  });
  return {};
}
