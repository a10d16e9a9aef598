// A job's life on one axis of time: a lane per attempt, and one for its webhook.

import { duration, h, svg } from "./dom.js";

const LANE = 44, BAR = 20, LEFT = 84, TOP = 26;

/**
 * @param {any} drawn what /timeline answers
 * @param {number} now_ms @param {number} width
 */
export function timelineView(drawn, now_ms, width) {
  /** @type {any[]} */
  const attempts = drawn.attempts;
  if (!attempts.length) return h("p", { class: "empty" }, "Nothing is known of its life any more.");
  const hooks = drawn.marks.filter((/** @type {any} */ mark) => mark.kind === "webhook");
  const begin = attempts[0].queued_ms;
  const ends = [...attempts.map((each) => each.ended_ms ?? now_ms), ...hooks.map((/** @type {any} */ hook) => hook.at_ms)];
  const span = Math.max(1, Math.max(...ends) - begin);
  const scale = (width - LEFT - 90) / span;
  const x = (/** @type {number} */ ms) => LEFT + (ms - begin) * scale;
  const lanes = attempts.length + (hooks.length ? 1 : 0);
  const height = TOP + lanes * LANE + 4;
  const parts = [];
  const step = stepOf(span, (width - LEFT) / 110);
  for (let ms = 0; ms <= span * 1.02; ms += step) {
    const at = LEFT + ms * scale;
    parts.push(svg("line", { class: "grid", x1: at, x2: at, y1: TOP - 6, y2: height }), svg("text", { class: "quiet", x: at, y: 12, "text-anchor": "middle" }, tick(ms)));
  }
  attempts.forEach((attempt, i) => {
    const y = TOP + i * LANE + 4;
    parts.push(svg("text", { x: 0, y: y + 14 }, attempts.length > 1 ? `Attempt ${i + 1}` : "Job"));
    const taken = attempt.started_ms ?? attempt.ended_ms ?? now_ms;
    const cold = attempt.cold_from_ms !== null;
    // The cold start lies over the wait: what is written of the wait has to fit beside it.
    parts.push(...bar("queued", "in the queue", x(attempt.queued_ms), x(taken), y, taken - attempt.queued_ms, cold ? null : ""));
    if (cold) parts.push(...bar("cold", "cold start", x(attempt.cold_from_ms), x(attempt.cold_to_ms), y, attempt.cold_to_ms - attempt.cold_from_ms, "cold start "));
    if (attempt.started_ms !== null) {
      const isMarked = drawn.marks.some((/** @type {any} */ mark) => mark.at_ms >= attempt.started_ms && !["webhook", "fault", "notice"].includes(mark.kind));
      const end = attempt.ended_ms ?? now_ms;
      const outcome = { COMPLETED: "completed", LOST: "lost" }[/** @type {string} */ (attempt.outcome)] ?? (attempt.outcome ? "failed" : "ran");
      parts.push(...bar(outcome, `${attempt.outcome === "LOST" ? "lost" : "ran"} on ${attempt.worker_id}`, x(attempt.started_ms), x(end), y, end - attempt.started_ms, attempt.outcome === "LOST" ? "lost " : "", i < attempts.length - 1 ? "within" : isMarked ? "always beside" : "beside"));
    }
    const until = attempts[i + 1]?.queued_ms ?? Infinity;
    for (const mark of drawn.marks) {
      if (mark.at_ms < attempt.queued_ms || mark.at_ms >= until || mark.kind === "webhook") continue;
      if (mark.kind === "fault") parts.push(svg("path", { class: "fault", d: `M${x(mark.at_ms)} ${y + BAR + 2}l5 9h-10z` }, svg("title", {}, mark.text)));
      else if (mark.kind !== "notice") parts.push(svg("line", { class: "chunk", x1: x(mark.at_ms), x2: x(mark.at_ms), y1: y - 2, y2: y + BAR + 2 }, svg("title", {}, `${mark.kind}: ${mark.text}`)));
    }
  });
  if (hooks.length) {
    const y = TOP + attempts.length * LANE + 4;
    parts.push(svg("text", { x: 0, y: y + 14 }, "Webhook"));
    for (const hook of hooks) parts.push(...bar(`hook${hook.failed ? " bad" : ""}`, hook.text, x(hook.from_ms), Math.max(x(hook.at_ms), x(hook.from_ms) + 6), y, hook.at_ms - hook.from_ms, `${hook.text.match(/→ (?:status )?(\d{3})\b/)?.[1] ?? "no answer"} · `, "beside"));
  }
  const told = attempts.map((each, i) => `attempt ${i + 1}: ${each.outcome ?? "under way"}`).join(", ");
  return h("div", { class: "stack" },
    svg("svg", { class: "timeline", viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `Timeline over ${duration(span)}: ${told}` }, ...parts),
    h("div", { class: "legend quiet" }, ...[["queued", "In queue"], ["cold", "Cold start"], ["ran", "Running"], ["lost", "Lost"], ["chunk", "Chunk or progress"], ["fault", "Fault"], ["hook", "Webhook"]]
      .map(([name, text]) => h("span", {}, h("i", { class: name }), text))));
}

/** @param {string} kind @param {string} what @param {number} from @param {number} to @param {number} y @param {number} took_ms @param {string | null} [prefix] null: nothing is written on it @param {"within" | "beside" | "always beside"} [where] its duration is written if there is no room on it */
function bar(kind, what, from, to, y, took_ms, prefix = "", where = "within") {
  const width = Math.max(1, to - from);
  const parts = [svg("rect", { class: kind, x: from, y, width, height: BAR, rx: 2 }, svg("title", {}, `${what}: ${duration(took_ms)}`))];
  if (prefix === null) return parts;
  const text = where === "always beside" ? undefined : [prefix + duration(took_ms), duration(took_ms)].find((each) => width > each.length * 6.2 + 8);
  if (text || where !== "within") parts.push(svg("text", { x: text ? from + 6 : to + 5, y: y + 14, "pointer-events": "none" }, text ?? prefix + duration(took_ms)));
  return parts;
}

/** A round number of ms such that about so many fit. @param {number} span @param {number} count */
function stepOf(span, count) {
  const least = span / Math.max(1, count);
  const units = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000];
  return units.find((each) => each >= least) ?? Math.ceil(least / 3_600_000) * 3_600_000;
}

/** @param {number} ms */
function tick(ms) {
  if (ms < 1_000) return `${ms} ms`;
  if (ms < 60_000) return `${ms / 1_000} s`;
  return ms < 3_600_000 ? `${ms / 60_000} min` : `${ms / 3_600_000} h`;
}
