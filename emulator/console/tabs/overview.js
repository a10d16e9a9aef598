// What there is, and how it goes.

import { copyButton, duration, field, fill, h, select } from "../dom.js";
import { patch } from "../api.js";
import { snippet } from "../snippets.js";

/** @type {[string, string, string][]} */
const SETTINGS = [
  ["workers_min", "Active workers (workersMin)", "Kept up without any job."],
  ["workers_max", "Max workers (workersMax)", "Never more; those above go as they come free."],
  ["idle_timeout_s", "Idle timeout, s", "A worker without a job for so long is stopped."],
  ["execution_timeout_ms", "Execution timeout, ms", "A job that runs longer FAILS; for jobs that come from now on."],
  ["scaler_value", "Scaler value", "QUEUE_DELAY: seconds a job may wait; REQUEST_COUNT: jobs per worker."],
];

/** @param {HTMLElement} place @param {import("../main.js").Page} page @returns {import("../main.js").Shown} */
export function show(place, page) {
  const figures = h("div", { class: "figures" });
  const facts = h("dl");
  const first = page.store.endpoints.find((each) => each.id === page.endpoint);
  const settings = settingsForm(page, first);
  const base = `${location.origin}/v2`;
  const code = h("pre", {}, snippet("curl", base, page.endpoint, "runsync", '{"input": {"prompt": "Hello World"}}'));
  fill(place, figures, h("div", { class: "columns" },
    h("section", { class: "panel" }, h("div", { class: "head" }, h("h2", {}, "Endpoint")), h("div", { class: "body" }, facts)),
    h("section", { class: "panel" }, h("div", { class: "head" }, h("h2", {}, "Settings"), h("small", {}, "changed while it runs")), h("div", { class: "body" }, settings)),
    h("section", { class: "panel" }, h("div", { class: "head" }, h("h2", {}, "Call it"), h("div", { class: "end" }, copyButton(() => code.textContent ?? ""))), h("div", { class: "body" }, code))));
  const draw = () => {
    const view = page.store.endpoints.find((each) => each.id === page.endpoint);
    if (!view) return;
    const { jobs, workers } = view.health;
    fill(figures, [["Completed", jobs.completed], ["Failed", jobs.failed], ["Retried", jobs.retried], ["In queue", jobs.inQueue], ["In progress", jobs.inProgress], ["Idle workers", workers.idle], ["Running workers", workers.running], ["Throttled", workers.throttled]]
      .map(([label, value]) => h("div", { class: "panel figure" }, h("b", {}, value), h("span", { class: "quiet" }, label))));
    fill(facts, [["Id", view.id], ["URL", view.url], ["Handler", view.handler || "built-in mock worker"], ["Workers", view.worker_kind], ["Clock", view.clock + (view.own_clock ? " (its own)" : "")], ["Obstacle", view.obstacle ?? "none"]]
      .flatMap(([label, value]) => [h("dt", {}, label), h("dd", { class: "mono" }, value)]));
  };
  draw();
  return { changed: (topics) => topics.has("endpoints") && draw() };
}

/** @param {import("../main.js").Page} page @param {any} view */
export function settingsForm(page, view) {
  const inputs = SETTINGS.map(([name, label, hint]) => /** @type {const} */ ([name, h("input", { type: "number", min: 0, step: name === "idle_timeout_s" ? "any" : 1, value: view?.[name] }), label, hint]));
  const scaler = select({}, ["QUEUE_DELAY", "REQUEST_COUNT"], view?.scaler_type);
  return h("form", { class: "settings", onsubmit: (/** @type {Event} */ event) => {
    event.preventDefault();
    const changes = Object.fromEntries(inputs.map(([name, input]) => [name, Number(input.value)]));
    void page.attempt(() => patch(`/endpoints/${encodeURIComponent(page.endpoint)}`, { ...changes, scaler_type: scaler.value }), `Changed; execution timeout ${duration(changes.execution_timeout_ms)}`);
  } }, inputs.slice(0, 4).map(([, input, label, hint]) => field(label, input, hint)), field("Scaler type", scaler, "When workers are added."), inputs.slice(4).map(([, input, label, hint]) => field(label, input, hint)), h("div", {}, h("button", { class: "primary" }, "Apply")));
}
