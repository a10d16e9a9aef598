// Deliveries of webhooks, and the receivers that the emulator hosts.

import { get, post, put } from "../api.js";
import { duration, field, fill, h, moment } from "../dom.js";
import { tree, valueView } from "../json_view.js";

/** @param {HTMLElement} place @param {import("../main.js").Page} page @returns {import("../main.js").Shown} */
export function show(place, page) {
  const rows = h("tbody"), sinks = h("div", { class: "body stack" }), detail = h("div", { class: "body stack" });
  const chosen = page.path[0];
  const detailPanel = h("section", { class: "panel", "aria-label": "Delivery" }, h("div", { class: "head" }, h("h2", {}, `Delivery ${chosen}`)), detail);
  detailPanel.hidden = !chosen;
  fill(place, h("section", { class: "panel", "aria-label": "Deliveries" }, h("div", { class: "head" }, h("h2", {}, "Deliveries")), h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, ["Delivery", "Job", "To", "State", "Attempts", "Actions"].map((each) => h("th", {}, each)))), rows))), detailPanel,
    h("section", { class: "panel", "aria-label": "Sinks" }, h("div", { class: "head" }, h("h2", {}, "Sinks"), h("small", {}, "receivers here, for webhooks to call: any name under /_emulator/sink/")), sinks));

  const redeliver = (/** @type {number | string} */ id, /** @type {string} */ url) => page.attempt(async () => { const made = await post(`/webhooks/${id}/redeliver`, url ? { url } : {}); page.go(`webhooks/${made.id}`); }, "Sent again");
  async function load() {
    const [{ webhooks }, { sinks: names }] = await Promise.all([get("/webhooks"), get("/sinks")]);
    fill(rows, webhooks.length ? webhooks.reverse().slice(0, 200).map((/** @type {any} */ each) => h("tr", {}, h("td", {}, h("a", { href: page.link(`webhooks/${each.id}`) }, each.id)), h("td", { class: "mono" }, h("a", { href: `#/${encodeURIComponent(each.endpoint)}/requests/${encodeURIComponent(each.job_id)}` }, each.job_id)), h("td", { class: "mono" }, each.url),
      h("td", {}, h("span", { class: `badge ${each.delivered ? "completed" : each.over ? "failed" : "in_progress"}` }, each.delivered ? "delivered" : each.over ? "given up" : "under way")), h("td", { class: "mono" }, each.attempts.map((/** @type {any} */ attempt) => attempt.status ?? "–").join(" ")),
      h("td", {}, h("button", { type: "button", "aria-label": `Redeliver ${each.id}`, onclick: () => redeliver(each.id, "") }, "Redeliver")))) : h("tr", {}, h("td", { colspan: 6, class: "empty" }, "No webhook was sent. A request with “+ Webhook” brings the first.")));
    if (chosen && !detail.contains(document.activeElement)) await drawDetail();
    const full = await Promise.all(names.slice(0, 20).map((/** @type {any} */ each) => get(`/sinks/${encodeURIComponent(each.name)}`)));
    if (!sinks.contains(document.activeElement)) fill(sinks, full.length ? full.map(sinkView) : h("p", { class: "quiet" }, "None was called yet."));
  }
  async function drawDetail() {
    const one = await get(`/webhooks/${chosen}`);
    const url = h("input", { type: "url", placeholder: one.url, "aria-label": "Another URL", size: 40 });
    fill(detail, h("dl", {}, [["To", one.url], ["Job", h("a", { href: page.link(`requests/${one.job_id}`) }, one.job_id)]].flatMap(([label, value]) => [h("dt", {}, label), h("dd", { class: "mono" }, value)])),
      h("div", { class: "row" }, h("button", { class: "primary", type: "button", onclick: () => redeliver(chosen, url.value.trim()) }, "Redeliver"), "to", url),
      h("h3", {}, "Attempts"), one.attempts.map((/** @type {any} */ attempt) => h("div", {}, h("span", { class: attempt.failure ? "badge failed" : "badge completed" }, attempt.status ?? "no answer"), ` ${moment(attempt.began_ms)}, ${duration(attempt.at_ms - attempt.began_ms)} ${attempt.failure ?? ""}`, attempt.answer && h("pre", { class: "quiet" }, attempt.answer))),
      h("h3", {}, "What was sent"), valueView(one.body, `webhook-${chosen}`));
  }
  /** @param {any} sink */
  function sinkView(sink) {
    const answers = h("input", { placeholder: "500, 500, 200", "aria-label": `Answers of sink ${sink.name}`, value: sink.answers.map((/** @type {any} */ each) => each.status).join(", ") });
    return h("div", { class: "stack" }, h("div", { class: "row" }, h("b", { class: "mono" }, sink.name), h("span", { class: "quiet" }, `${sink.count} calls`), h("code", {}, sink.url)),
      h("div", { class: "row" }, field("Answers next, then 200", answers), h("button", { type: "button", onclick: () => page.attempt(() => put(`/sinks/${encodeURIComponent(sink.name)}/answers`, { answers: answers.value.split(/[\s,]+/).filter(Boolean).map(Number) }), "Ordered") }, "Order")),
      sink.deliveries.slice(-20).reverse().map((/** @type {any} */ call) => h("details", {}, h("summary", {}, `${moment(call.at_ms)} ${call.method} → ${call.status}`), tree(call.body), h("h3", {}, "Headers"), tree(call.headers, 0))));
  }
  const quietly = () => load().catch((error) => { if (chosen) fill(detail, h("p", { class: "error-text" }, error.message)); });
  page.store.refresh("webhooks", quietly, 0);
  return { told: (kind) => { if (kind === "webhook" || kind === "reset" || kind === "hello") page.store.refresh("webhooks", quietly, 150); } };
}
