// The page's life: ask for a key if one is needed, load, follow the events, show the tab that the URL names.
//
// A URL is #/{endpoint}/{tab}/{what…}?{options}. A tab's module has show(place, page), which builds it and returns
// what is to be called when the store has changed and when it is left.

import { get, key, onKeyWanted } from "./api.js";
import { fill, h, select } from "./dom.js";
import { EventStream } from "./events.js";
import { Store } from "./store.js";
import * as compare from "./tabs/compare.js";
import * as job from "./tabs/job.js";
import * as logs from "./tabs/logs.js";
import * as metrics from "./tabs/metrics.js";
import * as overview from "./tabs/overview.js";
import * as requests from "./tabs/requests.js";
import * as timeAndFaults from "./tabs/time_and_faults.js";
import * as webhooks from "./tabs/webhooks.js";
import * as workers from "./tabs/workers.js";

/**
 * @typedef {object} Page what a tab is given
 * @property {Store} store
 * @property {string} endpoint the id of the one that is looked at
 * @property {string[]} path what the URL names after the tab
 * @property {URLSearchParams} options
 * @property {(path: string) => void} go to a tab of this endpoint: "requests/ID"
 * @property {(hash: string) => void} visit any place
 * @property {(path: string) => string} link
 * @property {(text: string, isError?: boolean) => void} say
 * @property {(work: () => Promise<unknown>, done?: string) => Promise<void>} attempt do it, and say how it went
 */
/** @typedef {{changed?: (topics: Set<string>) => void, told?: (kind: string, data: any) => void, left?: () => void, keys?: Record<string, () => void>}} Shown */

const TABS = /** @type {const} */ ({
  overview: ["Overview", overview], metrics: ["Metrics", metrics], logs: ["Logs", logs], requests: ["Requests", requests],
  workers: ["Workers", workers], time: ["Time & faults", timeAndFaults], webhooks: ["Webhooks", webhooks],
});

const store = new Store();
const [header, tabs, main, notes] = ["header", "tabs", "main", "notes"].map((id) => /** @type {HTMLElement} */ (document.getElementById(id)));
/** @type {Shown} */
let shown = {};
let endpoint = "";

/** @param {string} text @param {boolean} [isError] */
function say(text, isError = false) {
  const note = h("div", { class: isError ? "error" : "" }, text);
  notes.append(note);
  setTimeout(() => note.remove(), isError ? 8_000 : 3_000);
}

/** @param {() => Promise<unknown>} work @param {string} [done] */
async function attempt(work, done) {
  try {
    await work();
    if (done) say(done);
  } catch (error) {
    say(/** @type {Error} */ (error).message, true);
  }
}

const link = (/** @type {string} */ path) => `#/${encodeURIComponent(endpoint)}/${path}`;

/** Show another place at once: the key that is pressed next is meant for it. @param {string} hash */
function visit(hash) {
  if (hash === location.hash) return;
  history.pushState(null, "", hash);
  route();
}

function route() {
  const [place, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [id, tab, ...path] = place.split("/").map(decodeURIComponent);
  endpoint = store.endpoints.some((each) => each.id === id) ? id : store.endpoints[0]?.id ?? "";
  const name = /** @type {keyof typeof TABS} */ (tab in TABS ? tab : "requests");
  shown.left?.();
  fill(tabs, Object.entries(TABS).map(([each, [label]]) => h("a", { href: link(each), "aria-current": each === name ? "page" : null }, label)));
  /** @type {Page} */
  const page = { store, endpoint, path, options: new URLSearchParams(query), go: (to) => visit(link(to)), visit, link, say, attempt };
  tabs.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  fill(main);
  main.scrollTop = 0;
  const module = name === "requests" && path[0] === "compare" ? compare : name === "requests" && path[0] && path[0] !== "new" ? job : TABS[name][1];
  shown = module.show(main, page);
  document.title = `${TABS[name][0]} · ${endpoint} · runpod-emulator`;
  drawHeader();
}

function drawHeader() {
  const view = store.endpoints.find((each) => each.id === endpoint);
  if (!view) return fill(header, h("h1", {}, "runpod-emulator"));
  const { jobs, workers: counts } = view.health;
  const [state, word] = !store.connected ? ["lost", "Not connected"] : view.obstacle ? ["warn", "Workers do not start"] : ["live", "Ready"];
  const choice = select({ "aria-label": "Endpoint", onchange: () => visit(`#/${encodeURIComponent(choice.value)}/requests`) }, store.endpoints.map((each) => each.id), endpoint);
  fill(header,
    h("div", { class: "name" }, h("img", { src: "/_emulator/ui/icon.svg", alt: "" }), h("h1", {}, store.endpoints.length > 1 ? choice : endpoint)),
    h("div", { class: "state", id: "state" }, h("span", {}, h("i", { class: `dot ${state}` }), ` ${word}`), "·",
      h("span", {}, h("b", {}, counts.running), " running workers"), "·", h("span", {}, h("b", {}, jobs.inProgress), " jobs in progress"), "·", h("span", {}, h("b", {}, jobs.inQueue), " in queue"),
      store.clock && store.clock.mode !== "real" && h("span", { class: "badge warn" }, `clock ${store.clock.mode}`),
      store.open && h("span", { class: "badge warn", title: "It listens beyond this machine and asks for no key: whoever reaches the port may do all that this page can. Set one with --api-key." }, "open to the network, no key")),
    h("div", { class: "right" },
      h("button", { class: "plain", type: "button", onclick: showKeys, "aria-label": "Keyboard shortcuts" }, "?"),
      h("button", { class: "plain", type: "button", onclick: switchTheme, "aria-label": "Light or dark" }, "◐"),
      h("a", { href: key.get() ? "/_emulator/ui/docs.html" : "/_emulator/docs" }, "API docs")));
}

// Light and dark

const THEME = "emulator.theme";
const dark = matchMedia("(prefers-color-scheme: dark)");
function applyTheme() {
  document.documentElement.dataset.theme = localStorage.getItem(THEME) ?? (dark.matches ? "dark" : "light");
}
function switchTheme() {
  localStorage.setItem(THEME, document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  applyTheme();
  route();
}
dark.addEventListener("change", applyTheme);

// Keys

const HELP = [["/", "search"], ["n", "new request"], ["j k", "down and up in the list"], ["Enter", "open the job"], ["1 … 7", "the tabs"], ["⌘/Ctrl Enter", "send the request"], ["Esc", "back to the list"], ["?", "this"]];
function showKeys() {
  const dialog = h("dialog", { "aria-label": "Keyboard shortcuts", onclose: () => dialog.remove() }, h("form", { method: "dialog", class: "stack" }, h("h2", {}, "Keyboard"),
    h("dl", {}, HELP.flatMap(([keys, what]) => [h("dt", {}, keys.split(" ").map((each) => [h("kbd", {}, each), " "]).flat()), h("dd", {}, what)])), h("button", {}, "Close")));
  document.body.append(dialog);
  dialog.showModal();
}

addEventListener("keydown", (event) => {
  const target = event.composedPath()[0];
  const typing = target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)) && /** @type {HTMLInputElement} */ (target).type !== "checkbox";
  if (event.key === "Escape" && typing) /** @type {HTMLElement} */ (target).blur();
  if (typing || event.metaKey || event.ctrlKey || event.altKey || document.querySelector("dialog[open]")) return;
  const tab = Object.keys(TABS)[Number(event.key) - 1];
  const onControl = target instanceof HTMLElement && /^(A|BUTTON|SUMMARY)$/.test(target.tagName);
  if (event.key === "?") showKeys();
  else if (tab) visit(link(tab));
  else if (event.key === "n") visit(link("requests/new"));
  else if (event.key === "Escape") visit(link("requests"));
  else if (event.key === "/") {
    if (!main.querySelector("[data-search]")) visit(link("requests"));
    /** @type {HTMLElement | null} */ (main.querySelector("[data-search]"))?.focus();
  } else if (shown.keys?.[event.key] && !(event.key === "Enter" && onControl)) shown.keys[event.key]();
  else return;
  event.preventDefault();
});

// The beginning

/** Ask for the key until one passes. */
function askForKey() {
  if (document.getElementById("key")) return;
  const input = h("input", { type: "password", autocomplete: "off", required: true, "aria-label": "API key" });
  const told = h("p", { class: "error-text", role: "alert" });
  const dialog = h("dialog", { id: "key", "aria-label": "API key", oncancel: (/** @type {Event} */ event) => event.preventDefault() },
    h("form", { class: "stack", onsubmit: async (/** @type {Event} */ event) => {
      event.preventDefault();
      key.set(input.value.trim());
      try {
        await get("/endpoints");
        dialog.remove();
        if (store.endpoints.length) stream.reopen();
        else await begin();
      } catch (error) {
        told.textContent = /** @type {Error} */ (error).message;
      }
    } }, h("h2", {}, "This emulator asks for an API key"), h("p", { class: "quiet" }, "One of those it was started with (--api-key). It is kept in this tab alone."), input, told, h("button", { class: "primary" }, "Go on")));
  document.body.append(dialog);
  dialog.showModal();
}

const stream = new EventStream((events) => store.apply(events), (state) => {
  store.connected = state === "live";
  store.changed("endpoints");
});

async function begin() {
  try {
    await store.load();
  } catch (error) {
    if (document.getElementById("key")) return;
    fill(main, h("p", { class: "empty" }, `${/** @type {Error} */ (error).message}; trying again`));
    setTimeout(begin, 1_000);
    return;
  }
  store.subscribe((topics) => {
    if (topics.has("endpoints") || topics.has("clock")) drawHeader();
    shown.changed?.(topics);
  });
  store.listeners.add((kind, data) => shown.told?.(kind, data));
  addEventListener("hashchange", route);
  route();
  void stream.run();
}

onKeyWanted.add(askForKey);
applyTheme();
void begin();
