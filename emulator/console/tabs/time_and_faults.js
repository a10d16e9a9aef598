// The clock and what it will bring; what is ordered to go wrong; stubs.

import { get, post, put, remove } from "../api.js";
import { duration, field, fill, h, moment } from "../dom.js";
import { jsonEditor } from "../editor.js";

/** What a timer brings, where its name does not say it. @type {Record<string, string>} */
const TIMERS = {
  retention: "the result is forgotten", ttl: "the job ends TIMED_OUT", "execution timeout": "the job ends FAILED", "queue delay": "a worker is added", "idle timeout": "the worker is stopped",
  heartbeat: "the worker counts as lost without one", "job-take": "the worker is answered that there is nothing", "cold start": "the worker is up", "webhook retry": "the webhook is called again", "worker restart": "a worker takes the place of one that crashed",
};

/** @param {string} text */
const cut = (text) => (text.length > 300 ? `${text.slice(0, 300)}…` : text);
/** @param {number} matched @param {number | null} most */
const times = (matched, most) => (most === null ? `${matched}` : `${matched} of ${most}`);

/** @param {HTMLElement} place @param {import("../main.js").Page} page @returns {import("../main.js").Shown} */
export function show(place, page) {
  const { store } = page;
  const view = store.endpoints.find((each) => each.id === page.endpoint);
  const query = view?.own_clock ? `?endpoint=${encodeURIComponent(page.endpoint)}` : "";
  const now = h("b", { class: "mono" }), mode = h("span", { class: "badge" });
  const timers = h("tbody"), rules = h("tbody"), stubs = h("tbody"), presets = h("div", { class: "row" });
  const by = h("input", { type: "number", min: 0, value: 10 });
  const scale = h("input", { type: "number", min: 0.01, step: "any", value: 10 });
  /** @type {any} */
  let clock = store.clock;
  const button = (/** @type {string} */ label, /** @type {() => Promise<unknown>} */ work) => h("button", { type: "button", onclick: () => page.attempt(async () => { await work(); await load(); }) }, label);
  const fault = jsonEditor(JSON.stringify({ match: { operation: "status" }, times: 1, then: { status: 503 } }, null, 2), { label: "Fault rule, JSON" });
  const stub = jsonEditor(JSON.stringify({ when: { input: { prompt: "hi" } }, returns: { text: "hello" } }, null, 2), { label: "Stub, JSON" });
  const head = (/** @type {string[]} */ names) => h("thead", {}, h("tr", {}, names.map((name) => h("th", {}, name))));
  const panel = (/** @type {string} */ label, /** @type {(Node | null)[]} */ end, /** @type {Node[]} */ ...body) => h("section", { class: "panel", "aria-label": label }, h("div", { class: "head" }, h("h2", {}, label), h("div", { class: "end" }, end)), body);

  const stubsPath = `/endpoints/${encodeURIComponent(page.endpoint)}/stubs`;
  const adding = h("details", { class: "body" }, h("summary", {}, "Add a stub"), h("p", { class: "quiet" }, "For an endpoint without a handler. The first that matches and is not used up answers; the others are tried in this order."), stub.element, button("Add", () => post(stubsPath, stub.get())));

  fill(place, h("div", { class: "columns" },
    panel("Clock", [mode], h("div", { class: "body stack" }, h("p", {}, now, view?.own_clock ? " (this endpoint's own)" : ""),
      h("div", { class: "row" }, button("Freeze", () => post(`/clock/freeze${query}`)), button("Resume", () => post(`/clock/resume${query}`)), button("Real", () => put(`/clock${query}`, { mode: "real" })), button("Auto", () => put(`/clock${query}`, { mode: "auto" }))),
      h("div", { class: "row" }, field("Advance by, s", by), button("Advance", () => post(`/clock/advance${query}`, { by_ms: Math.round(Number(by.value) * 1000) })), button("To the next timer", () => post(`/clock/advance${query}`, { to_next: true }))),
      h("div", { class: "row" }, field("Times as fast", scale), button("Scale", () => put(`/clock${query}`, { mode: `scaled:${scale.value}` }))))),
    panel("Next timers", [], h("div", { class: "scroll" }, h("table", {}, head(["In", "What for", "Of"]), timers)))),
    panel("Faults", [button("Lift all", () => remove("/faults"))], h("div", { class: "body stack" }, h("div", { class: "row" }, h("small", {}, "Presets"), presets)),
      h("div", { class: "scroll" }, h("table", {}, head(["Rule", "Matches", "Does", "Hits", "Actions"]), rules)),
      h("details", { class: "body" }, h("summary", {}, "Order a fault"), fault.element, button("Order", () => post("/faults", fault.get())), " ", h("a", { href: "/_emulator/docs" }, "what a rule can say"))),
    panel("Stubs", [button("Forget all", () => remove(stubsPath))], h("div", { class: "scroll" }, h("table", {}, head(["Stub", "When", "Then", "Matched", "Actions"]), stubs)),
      adding));

  async function load() {
    const [state, faults, names, stubbed] = await Promise.all([get(`/clock${query}`), get("/faults"), get("/faults/presets"), get(stubsPath)]);
    clock = { ...state, read_at: performance.now() };
    const on = new Set(faults.faults.map((/** @type {any} */ rule) => rule.id));
    fill(presets, names.presets.map((/** @type {string} */ name) => h("button", { type: "button", "aria-pressed": String(on.has(name)), onclick: () => page.attempt(async () => { await (on.has(name) ? remove(`/faults/${name}`) : post(`/faults/presets/${name}`)); await load(); }) }, name)));
    fill(rules, faults.faults.length ? faults.faults.map((/** @type {any} */ rule) => h("tr", {}, h("td", { class: "mono" }, rule.id), h("td", { class: "mono" }, JSON.stringify(rule.match)), h("td", { class: "mono" }, JSON.stringify(rule.then)), h("td", { class: "number" }, `${rule.fired} of ${rule.matched}${rule.times === null ? "" : `, at most ${rule.times}`}`),
      h("td", {}, button("Lift", () => remove(`/faults/${encodeURIComponent(rule.id)}`))))) : h("tr", {}, h("td", { colspan: 5, class: "empty" }, "Nothing is ordered to go wrong.")));
    fill(stubs, stubbed.stubs.length ? stubbed.stubs.map((/** @type {any} */ each) => h("tr", {}, h("td", {}, each.id), h("td", { class: "mono" }, each.when.input === undefined ? "any input" : JSON.stringify(each.when.input)), h("td", { class: "mono" }, cut(JSON.stringify(each.then))), h("td", { class: "number" }, times(each.matched, each.times)),
      h("td", {}, h("div", { class: "row" }, button("Copy to edit", async () => { stub.set(JSON.stringify({ when: each.when, ...each.then, ...(each.times === null ? {} : { times: each.times }) }, null, 2)); adding.open = true; stub.focus(); }),
        button("Forget", () => remove(`${stubsPath}/${each.id}`)))))) : h("tr", {}, h("td", { colspan: 5, class: "empty" }, "No stubs.")));
    draw();
  }
  function draw() {
    if (!clock) return;
    const now_ms = clock.now_ms + (performance.now() - clock.read_at) * clock.rate;
    now.textContent = `${new Date(now_ms).toLocaleDateString()} ${moment(now_ms)}`;
    mode.textContent = clock.mode;
    fill(timers, clock.timers.length ? clock.timers.slice(0, 12).map((/** @type {any} */ timer) => h("tr", {}, h("td", { class: "when" }, duration(Math.max(0, timer.at_ms - now_ms))), h("td", {}, timer.kind, TIMERS[timer.kind] && h("small", {}, `: ${TIMERS[timer.kind]}`)), h("td", { class: "mono when" }, timer.subject ?? "–"))) : h("tr", {}, h("td", { colspan: 3, class: "empty" }, "No timer runs.")));
  }
  const quietly = () => load().catch(() => {});
  store.refresh("time", quietly, 0);
  const ticking = setInterval(draw, 250);
  return {
    told: (kind) => { if (["clock", "fault", "job", "reset"].includes(kind)) store.refresh("time", quietly, 300); },
    left: () => { clearInterval(ticking); fault.close(); stub.close(); },
  };
}
