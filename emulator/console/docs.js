// The documentation page: a way to try each call. Where a key is asked for, it fetches the page with the key first.

import { key } from "./api.js";
import { fill, h } from "./dom.js";

const STREAM_MS = 10_000;

/** A form for one operation, in the place where it is described. @param {HTMLDetailsElement} operation */
function tryForm(operation) {
  const { method = "GET", path = "", example = "" } = operation.dataset;
  const rows = /** @type {HTMLElement[]} */ ([...operation.querySelectorAll("tr[data-name]")]);
  const names = new Set([...[...path.matchAll(/\{(\w+)\}/g)].map((each) => each[1]), ...rows.filter((row) => row.dataset.in === "query").map((row) => row.dataset.name ?? "")]);
  const inputs = new Map([...names].map((name) => [name, h("input", { value: name === "endpoint_id" ? document.body.dataset.endpoint ?? "" : "", size: name === "job_id" ? 40 : 16 })]));
  const body = example && h("textarea", { ".value": JSON.stringify(JSON.parse(example), null, 2), spellcheck: "false", "aria-label": "Body" });
  const said = h("p", { role: "status" }), answer = h("pre", { tabindex: 0, "aria-label": "Answer", hidden: true });
  const send = h("button", {}, "Send");
  const form = h("form", { class: "try", onsubmit: async (/** @type {Event} */ event) => {
    event.preventDefault();
    const left = new Map(inputs);
    const url = new URL(path.replace(/\{(\w+)\}/g, (_, name) => {
      left.delete(name);
      // What stands for a path may have several steps.
      return (inputs.get(name)?.value ?? "").split("/").map(encodeURIComponent).join("/");
    }), location.origin);
    for (const [name, input] of left) if (input.value) url.searchParams.append(name, input.value);
    send.disabled = true;
    try {
      await call(url, method, body ? body.value : undefined, said, answer);
    } finally { send.disabled = false; }
  } }, [...inputs].map(([name, input]) => h("label", {}, name, input)), body && h("div", { class: "body" }, body), send);
  operation.querySelector("pre")?.after(form, said, answer);
}

/** @param {URL} url @param {string} method @param {string | undefined} body @param {HTMLElement} said @param {HTMLElement} answer */
async function call(url, method, body, said, answer) {
  const began = performance.now();
  const stop = new AbortController();
  // An endless stream is shown as far as it comes meanwhile.
  const timer = setTimeout(() => { if (!answer.hidden) stop.abort(); }, STREAM_MS);
  said.textContent = "…";
  answer.hidden = true;
  answer.textContent = "";
  try {
    const response = await fetch(url, { method, body, headers: { ...key.header(), ...(body === undefined ? {} : { "content-type": "application/json" }) }, signal: stop.signal });
    said.textContent = `${response.status} ${response.statusText} after ${Math.round(performance.now() - began)} ms`;
    answer.hidden = false;
    if (/^application\/json(;|$)/.test(response.headers.get("content-type") ?? "")) answer.textContent = JSON.stringify(await response.json(), null, 2);
    else await response.body?.pipeThrough(new TextDecoderStream()).pipeTo(new WritableStream({ write: (part) => answer.append(part) }));
  } catch (error) {
    if (!stop.signal.aborted) said.textContent = `The emulator cannot be reached: ${/** @type {Error} */ (error).message}`;
  } finally { clearTimeout(timer); }
}

/** The page itself, when it could not be had without a key. */
async function load() {
  const response = await fetch("/_emulator/docs", { headers: { ...key.header(), accept: "text/plain" } });
  if (response.ok) {
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    document.title = page.title;
    document.body.dataset.endpoint = page.body.dataset.endpoint;
    document.body.replaceChildren(...page.body.children);
    return offer();
  }
  const input = h("input", { type: "password", autocomplete: "off", required: true, "aria-label": "API key" });
  fill(document.body, h("main", {}, h("h1", {}, "This emulator asks for an API key"), key.get() && h("p", { role: "alert" }, "That key does not pass."),
    h("form", { class: "try", onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); key.set(input.value.trim()); void load(); } }, input, h("button", {}, "Go on"))));
  input.focus();
}

function offer() {
  for (const operation of /** @type {NodeListOf<HTMLDetailsElement>} */ (document.querySelectorAll("details[data-method]"))) {
    operation.addEventListener("toggle", () => { if (operation.open && !operation.querySelector(".try")) tryForm(operation); });
  }
}

if (document.body.dataset.endpoint === undefined) void load();
else offer();
