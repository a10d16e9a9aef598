// One job: its timeline, what went in and came out, its logs, its webhook's attempts; and what can be done with it.

import { get, operate, post } from "../api.js";
import { badge, copyButton, download, duration, fill, h, moment } from "../dom.js";
import { errorView, valueView } from "../json_view.js";
import { timelineView } from "../timeline.js";
import { compose } from "./requests.js";
import { logLine } from "./logs.js";

const ENDED = ["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"];

/** @param {HTMLElement} place @param {import("../main.js").Page} page @returns {import("../main.js").Shown} */
export function show(place, page) {
  const id = page.path[0];
  const title = h("div", { class: "head" });
  const line = h("div", { class: "body" });
  const facts = h("dl");
  const output = h("div", { class: "body" });
  const input = h("div", { class: "body" });
  const stream = h("pre", { tabindex: 0, role: "region", "aria-label": "Stream", "aria-live": "off" });
  const streamPanel = panel("Stream", h("div", { class: "body" }, stream));
  const logs = h("div", { class: "log", tabindex: 0, role: "log", "aria-label": "The job's logs" });
  const level = h("select", { "aria-label": "Level", onchange: () => drawLogs() }, ["All levels", "INFO", "WARN", "ERROR"].map((each) => h("option", {}, each)));
  const hooks = h("div");
  const hooksPanel = panel("Webhook", hooks);
  /** @type {any} */
  let job = null;
  /** @type {any} */
  let drawn = null;
  /** @type {any[]} */
  let lines = [];
  let inputShown = "", outputShown = "", asking = false, again = false;

  fill(place, h("section", { class: "panel", "aria-label": "Timeline" }, title, line),
    h("div", { class: "columns" }, panel("Output", output), panel("Input", input)), streamPanel,
    panel("Logs", logs, level, h("a", { href: page.link(`logs?job=${encodeURIComponent(id)}`) }, "View in context"), h("button", { class: "plain", type: "button", onclick: () => download(lines.map((each) => each.text).join("\n"), `${id}.log`, "text/plain") }, "Download")),
    hooksPanel, panel("Details", h("div", { class: "body" }, facts)));
  streamPanel.hidden = hooksPanel.hidden = true;

  async function load() {
    if (asking) { again = true; return; }
    asking = true;
    try {
      const [view, timeline, outputs, logged, deliveries] = await Promise.all([get(`/jobs/${id}`), get(`/jobs/${id}/timeline`), get(`/jobs/${id}/output`), get(`/jobs/${id}/logs`), get(`/webhooks?job=${encodeURIComponent(id)}`)]);
      job = view;
      drawn = timeline;
      lines = logged.lines;
      const chunks = outputs.outputs.filter((/** @type {any} */ each) => each.form === "chunk");
      streamPanel.hidden = !chunks.length;
      stream.textContent = chunks.map((/** @type {any} */ each) => (typeof each.output === "string" ? each.output : `${JSON.stringify(each.output)}\n`)).join("");
      draw();
      drawLogs();
      drawHooks(deliveries.webhooks);
    } catch (error) {
      if (!job) fill(place, h("p", { class: "empty" }, `${/** @type {Error} */ (error).message}`), h("p", { class: "empty" }, h("a", { href: page.link("requests") }, "All requests")));
    } finally {
      asking = false;
      if (again) { again = false; setTimeout(load, 50); }
    }
  }

  const act = (/** @type {string} */ operation) => page.attempt(() => operate("POST", job.endpoint, `${operation}/${id}`));
  function draw() {
    const ended = ENDED.includes(job.status);
    const button = (/** @type {string} */ label, /** @type {() => void} */ onclick, enabled = true) => h("button", { type: "button", onclick, disabled: !enabled }, label);
    fill(title, h("a", { href: page.link("requests") }, "Requests"), "/", h("h2", { class: "mono" }, id), badge(job.status), copyButton(() => id),
      job.again_of && h("span", { class: "quiet" }, "runs again ", h("a", { class: "mono", href: page.link(`requests/${job.again_of}`) }, job.again_of)),
      h("div", { class: "end" },
        button("Run again", () => page.attempt(async () => { const made = await post(`/jobs/${id}/run-again`); page.go(`requests/${made.id}`); })),
        button("Edit and run again", () => { compose(requestText(), id); page.go("requests/new"); }),
        button("Cancel", () => act("cancel"), !ended), button("Retry", () => act("retry"), job.status === "FAILED" || job.status === "TIMED_OUT"),
        job.again_of && button("Compare", () => page.go(`requests/compare/${job.again_of}/${id}`))));
    drawTimeline();
    const shownOutput = JSON.stringify([job.error, job.output, job.waiting_for]);
    if (shownOutput !== outputShown) {
      outputShown = shownOutput;
      fill(output, h("div", { class: "stack" }, job.waiting_for && h("p", { class: "quiet" }, `Waiting: ${job.waiting_for}`), job.error !== null && errorView(job.error), job.output !== null ? valueView(job.output, id) : job.error === null && h("p", { class: "quiet" }, ended ? "No output." : "No output yet.")));
    }
    const shownInput = JSON.stringify(job.input);
    if (shownInput !== inputShown) {
      inputShown = shownInput;
      fill(input, valueView(job.input, `${id}-input`));
    }
    fill(facts, [["Submitted", moment(job.submitted_ms)], ["Delay", duration(job.delay_ms)], ["Execution", duration(job.execution_ms)], ["Worker", job.worker_id ? h("a", { href: page.link(`workers/${job.worker_id}`) }, job.worker_id) : "–"], ["Retries", job.retries], ["Asked by", job.sync ? "/runsync" : "/run"], ["Webhook", job.webhook ?? "none"], ["Policy", job.policy ? JSON.stringify(job.policy) : "the endpoint's"]]
      .flatMap(([label, value]) => [h("dt", {}, label), h("dd", { class: "mono" }, value)]));
  }
  function requestText() {
    return JSON.stringify({ input: job.input, ...(job.policy ? { policy: job.policy } : {}), ...(job.webhook ? { webhook: job.webhook } : {}) }, null, 2);
  }
  function drawTimeline() {
    fill(line, timelineView(drawn, page.store.now(), Math.max(320, line.clientWidth - 24)),
      drawn.marks.filter((/** @type {any} */ mark) => mark.kind === "fault" || mark.kind === "notice").map((/** @type {any} */ mark) => h("p", { class: mark.kind === "fault" ? "error-text" : "quiet" }, `${moment(mark.at_ms)} ${mark.text}`)));
  }
  function drawLogs() {
    const wanted = level.value;
    const shown = lines.filter((each) => wanted === "All levels" || (each.level ?? (each.stream === "stderr" ? "ERROR" : "INFO")) === wanted);
    fill(logs, shown.length ? shown.map((each) => logLine(each)) : h("p", { class: "quiet" }, lines.length ? "No line of this level." : "Nothing was written (workers in this process write to the emulator's own output)."));
  }
  /** @param {any[]} deliveries */
  function drawHooks(deliveries) {
    hooksPanel.hidden = !deliveries.length;
    fill(hooks, h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["Attempt", "When", "Took", "Answer", "Body of the answer"].map((each) => h("th", {}, each)))),
      h("tbody", {}, deliveries.flatMap((delivery) => delivery.attempts.map((/** @type {any} */ attempt, /** @type {number} */ i) => h("tr", {}, h("td", {}, `${delivery.id}.${i + 1}`), h("td", { class: "mono" }, moment(attempt.began_ms)), h("td", {}, duration(attempt.at_ms - attempt.began_ms)), h("td", {}, h("span", { class: attempt.failure ? "badge failed" : "badge completed" }, attempt.status ?? "none"), attempt.failure && ` ${attempt.failure}`), h("td", { class: "mono" }, attempt.answer))))))),
      h("p", { class: "foot" }, h("a", { href: page.link(`webhooks/${deliveries.at(-1)?.id}`) }, "Request, answers, redeliver")));
  }

  void load();
  // What runs grows while it is looked at.
  const ticking = setInterval(() => { if (job && drawn && !ENDED.includes(job.status)) drawTimeline(); }, 500);
  return {
    told: (kind, data) => {
      if (data.job_id === id && ["job", "output", "webhook", "fault", "log"].includes(kind)) page.store.refresh(`job ${id}`, load, 80);
      else if (kind === "clock") void load();
      else if (kind === "hello" && job) void load();
    },
    left: () => clearInterval(ticking),
    keys: { r: () => page.attempt(async () => page.go(`requests/${(await post(`/jobs/${id}/run-again`)).id}`)) },
  };
}

/** @param {string} label @param {HTMLElement} body @param {...HTMLElement} end */
function panel(label, body, ...end) {
  return h("section", { class: "panel", "aria-label": label }, h("div", { class: "head" }, h("h2", {}, label), end.length > 0 && h("div", { class: "end" }, end)), body);
}

