// The composer, and the list of jobs.

import { call, get, operate, post } from "../api.js";
import { copyButton, download, fill, h, select } from "../dom.js";
import { jsonEditor } from "../editor.js";
import { JobList } from "../job_list.js";
import { errorView, valueView } from "../json_view.js";
import { checkRequest } from "../request_check.js";
import { snippet } from "../snippets.js";

const HELLO = JSON.stringify({ input: { prompt: "Hello World" } }, null, 2);
const RECENT = "emulator.recent", SAVED = "emulator.saved";
const STATES = ["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"];
/** What is being written, as long as the page is open. */
let draft = { text: HELLO, again: "" };

/** Have the composer begin with a job's request. @param {string} text @param {string} again_of the job's id */
export function compose(text, again_of) {
  draft = { text, again: again_of };
}

/** @param {string} name @returns {{name: string, text: string}[]} */
const kept = (name) => JSON.parse(localStorage.getItem(name) ?? "[]");

/** @param {HTMLElement} place @param {import("../main.js").Page} page @returns {import("../main.js").Shown} */
export function show(place, page) {
  const composer = composerView(page);
  const jobs = jobsView(page);
  fill(place, composer.element, jobs.element);
  if (page.path[0] === "new") composer.focus();
  return { changed: (topics) => { jobs.changed(topics); composer.changed(topics); }, left: composer.close, keys: { j: () => jobs.list.move(1), k: () => jobs.list.move(-1), Enter: () => jobs.list.openChosen() } };
}

/** @param {import("../main.js").Page} page */
function composerView(page) {
  const operation = select({ "aria-label": "Operation" }, [["run", "Run"], ["runsync", "Run sync"]], "run");
  const stream = h("input", { type: "checkbox" });
  const url = h("span", { class: "url", title: "the endpoint's URL" });
  const output = h("div", { class: "out", tabindex: 0, role: "region", "aria-label": "Output" }, h("p", { class: "quiet" }, "The output appears here."));
  const advice = h("ul", { class: "advice", "aria-label": "What production would say", hidden: true });
  const from = h("span", { class: "quiet" });
  const send = h("button", { class: "primary", type: "button", onclick: () => run() }, "Run");
  const language = select({ "aria-label": "Language" }, ["curl", "Python", "JavaScript"], "curl");
  const where = select({ "aria-label": "For" }, [["here", "for here"], ["production", "for production"]], "here");
  const inputs = h("select", { "aria-label": "Inputs", onchange: () => { const text = inputs.value; inputs.value = ""; if (text) editor.set(text); } });
  let watched = "";
  const check = (/** @type {string} */ text) => {
    const faults = checkRequest(text);
    fill(advice, faults.map((fault) => h("li", { class: fault.severity }, fault.message)));
    advice.hidden = !faults.length;
    return faults;
  };
  const editor = jsonEditor(draft.text, { label: "Request, JSON", run: () => void run(), check, changed: (text) => { draft.text = text; check(text); } });
  const showUrl = () => { url.textContent = `${location.origin}/v2/${page.endpoint}/${operation.value}`; send.textContent = operation.value === "run" ? "Run" : "Run sync"; };
  operation.addEventListener("change", showUrl);
  showUrl();
  check(draft.text);

  const offer = (/** @type {any[]} */ offered) => fill(inputs, h("option", { value: "" }, "Inputs…"),
    [["From the handler's folder", offered], ["Saved", kept(SAVED)], ["Recent", kept(RECENT)]].map(([label, list]) => list.length && h("optgroup", { label }, /** @type {any[]} */ (list).map((each) => h("option", { value: each.text }, each.name)))));
  /** @type {any[]} */
  let offered = [];
  offer([]);
  get(`/endpoints/${encodeURIComponent(page.endpoint)}/inputs`).then(({ inputs: found }) => {
    offered = found.map((/** @type {any} */ each) => ({ name: `${each.name} (${each.file})`, text: JSON.stringify({ input: each.input }, null, 2) }));
    offer(offered);
  }, () => {});

  const edit = (/** @type {(request: any) => void} */ change) => {
    try {
      const request = JSON.parse(editor.get());
      change(request);
      editor.set(JSON.stringify(request, null, 2));
    } catch { page.say("The request is not valid JSON.", true); }
  };

  async function run() {
    const text = editor.get();
    if (checkRequest(text).some((fault) => fault.message.startsWith("not valid JSON"))) return page.say("The request is not valid JSON.", true);
    const recent = [{ name: `${text.replace(/\s+/g, " ").slice(0, 60)}`, text }, ...kept(RECENT).filter((each) => each.text !== text)].slice(0, 12);
    localStorage.setItem(RECENT, JSON.stringify(recent));
    offer(offered);
    send.disabled = true;
    fill(output, h("p", { class: "quiet" }, "Sending…"));
    try {
      const sent = draft.again ? await post(`/jobs/${draft.again}/run-again`, { request: JSON.parse(text) }) : await operate("POST", page.endpoint, operation.value, text);
      draft.again = "";
      from.textContent = "";
      watched = sent.id;
      if (stream.checked) await readStream(sent.id);
      else await showJob();
    } catch (error) {
      fill(output, h("p", { class: "error-text" }, /** @type {Error} */ (error).message));
    } finally {
      send.disabled = false;
    }
  }

  /** As clients do: what is read here is taken. @param {string} id */
  async function readStream(id) {
    const chunks = h("pre", { "aria-label": "Stream" });
    fill(output, h("p", {}, h("a", { href: page.link(`requests/${id}`) }, id)), chunks);
    for (let status = ""; watched === id && !["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"].includes(status);) {
      const answer = await operate("GET", page.endpoint, `stream/${id}`);
      status = answer.status;
      for (const { output: chunk } of answer.stream) chunks.append(typeof chunk === "string" ? chunk : `${JSON.stringify(chunk)}\n`);
    }
    await showJob(chunks);
  }

  let asking = false, again = false;
  /** @param {Node} [streamed] */
  async function showJob(streamed) {
    if (!watched) return;
    // What is being asked for may be older than what has just been told.
    if (asking) { again = true; return; }
    asking = true;
    try {
      const job = await get(`/jobs/${watched}`);
      fill(output, h("div", { class: "stack" }, h("div", { class: "row" }, h("span", { class: `badge ${job.status.toLowerCase()}` }, job.status), h("a", { class: "mono", href: page.link(`requests/${job.id}`) }, job.id)),
        job.waiting_for && h("p", { class: "quiet" }, `Waiting: ${job.waiting_for}`), streamed, job.error !== null && errorView(job.error), job.output !== null && valueView(job.output, job.id)));
      if (["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"].includes(job.status)) watched = "";
    } catch { /* it is gone by now */ } finally {
      asking = false;
      if (again) { again = false; void showJob(streamed); }
    }
  }

  from.textContent = draft.again ? `edits ${draft.again}` : "";
  const copied = copyButton(() => snippet(/** @type {any} */ (language.value), where.value === "here" ? `${location.origin}/v2` : "https://api.runpod.ai/v2", page.endpoint, operation.value, editor.get()));
  const element = h("section", { class: "panel", "aria-label": "New request" },
    h("div", { class: "head" }, h("div", { class: "bar grow" }, h("span", { class: "method" }, "POST"), url, operation, h("label", { class: "field line" }, stream, h("span", {}, "Stream response")), send)),
    h("div", { class: "head" }, inputs,
      h("button", { class: "plain", type: "button", onclick: () => { const name = prompt("Save this input as"); if (name) { localStorage.setItem(SAVED, JSON.stringify([...kept(SAVED).filter((each) => each.name !== name), { name, text: editor.get() }])); offer(offered); } } }, "Save"),
      h("button", { class: "plain", type: "button", onclick: () => edit((request) => { request.webhook = `${location.origin}/_emulator/sink/console`; }) }, "+ Webhook"),
      h("button", { class: "plain", type: "button", onclick: () => edit((request) => { request.policy = { executionTimeout: 600_000, lowPriority: false, ttl: 86_400_000 }; }) }, "+ Policy"),
      h("button", { class: "plain", type: "button", onclick: () => edit((request) => { request.s3Config = { accessId: "key", accessSecret: "secret", bucketName: "bucket", endpointUrl: "http://127.0.0.1:9000" }; }) }, "+ s3Config"),
      h("button", { class: "plain", type: "button", onclick: () => edit((request) => { download(JSON.stringify({ name: "test", input: request.input, timeout: 10_000 }, null, 2), "test-entry.json"); page.say("The entry for tests.json is downloaded."); }) }, "Save as test"),
      from, h("div", { class: "end" }, h("small", {}, "Copy as"), language, where, copied)),
    h("div", { class: "composer" }, editor.element, output), advice);
  return { element, focus: editor.focus, close: editor.close, changed: (/** @type {Set<string>} */ topics) => { if (watched && !stream.checked && (topics.has("jobs") || topics.has("workers"))) void showJob(); } };
}

/** @param {import("../main.js").Page} page */
function jobsView(page) {
  const { store, options } = page;
  const text = h("input", { type: "search", "data-search": true, placeholder: "Id or text in the input  ( / )", size: 26, "aria-label": "Search jobs", value: options.get("q") ?? "", oninput: () => { draw(); void searchAll(); } });
  const status = select({ "aria-label": "State", onchange: () => draw() }, [["", "Any state"], ...STATES.map((each) => /** @type {[string, string]} */ ([each, each]))], options.get("status") ?? "");
  const everywhere = h("input", { type: "checkbox", ".checked": options.has("all"), onchange: () => draw() });
  const worker = h("input", { placeholder: "Worker", "aria-label": "Worker", size: 14, value: options.get("worker") ?? "", oninput: () => draw() });
  const count = h("span", { class: "quiet" });
  const older = h("button", { class: "plain", type: "button", onclick: () => page.attempt(() => store.loadOlder()) }, "Load older jobs");
  const bulk = h("span", { class: "row", hidden: true });
  const list = new JobList({ open: (id) => page.visit(`#/${encodeURIComponent(store.jobs.get(id)?.endpoint ?? page.endpoint)}/requests/${encodeURIComponent(id)}`), selected: (number) => { bulk.hidden = !number; chosen.textContent = `${number} selected`; compare.disabled = number !== 2; } });
  const chosen = h("span");
  const each = (/** @type {string} */ operation) => page.attempt(async () => {
    const results = await Promise.allSettled([...list.selection].map((id) => operation === "again" ? post(`/jobs/${id}/run-again`) : operate("POST", store.jobs.get(id)?.endpoint ?? page.endpoint, `${operation}/${id}`)));
    const failed = results.filter((result) => result.status === "rejected");
    list.selectAll(false);
    if (failed.length) throw new Error(`${failed.length} of ${results.length} refused: ${failed[0].reason.message}`);
  }, "Done");
  const compare = h("button", { type: "button", onclick: () => page.go(`requests/compare/${[...list.selection].join("/")}`) }, "Compare");
  fill(bulk, chosen, h("button", { type: "button", onclick: () => each("cancel") }, "Cancel"), h("button", { type: "button", onclick: () => each("retry") }, "Retry"), h("button", { type: "button", onclick: () => each("again") }, "Run again"), compare);

  /** Those that the emulator has found, as it knows the inputs whole. @type {Set<string>} */
  let found = new Set();
  async function searchAll() {
    const wanted = text.value.trim();
    found = new Set();
    await new Promise((resolve) => setTimeout(resolve, 250));
    if (!wanted || wanted !== text.value.trim()) return;
    const answer = await get(`/jobs/list?${new URLSearchParams({ text: wanted, limit: "1000", ...(everywhere.checked ? {} : { endpoint: page.endpoint }) })}`).catch(() => ({ jobs: [] }));
    if (wanted !== text.value.trim()) return;
    found = new Set(answer.jobs.map((/** @type {any} */ job) => job.id));
    draw();
  }

  function draw() {
    const wanted = text.value.trim().toLowerCase();
    /** @type {import("../store.js").Brief[]} */
    const jobs = [];
    for (let i = store.order.length - 1; i >= 0; i--) {
      const job = store.jobs.get(store.order[i]);
      if (job && (everywhere.checked || job.endpoint === page.endpoint) && (!status.value || job.status === status.value) && (!worker.value || job.worker_id?.startsWith(worker.value))
        && (!wanted || found.has(job.id) || job.id.includes(wanted) || job.preview.toLowerCase().includes(wanted) || job.error?.toLowerCase().includes(wanted))) jobs.push(job);
    }
    list.set(jobs);
    count.textContent = `${jobs.length} of ${store.order.length}${store.older === null ? "" : " loaded"}`;
    older.hidden = store.older === null;
  }
  const exported = (/** @type {string} */ format) => page.attempt(async () => {
    const query = new URLSearchParams({ format, ...(everywhere.checked ? {} : { endpoint: page.endpoint }), ...(status.value ? { status: status.value } : {}), ...(worker.value ? { worker: worker.value } : {}), ...(text.value ? { text: text.value } : {}) });
    const answer = await call("GET", `/_emulator/jobs/export?${query}`);
    download(typeof answer === "string" ? answer : JSON.stringify(answer), `jobs.${format}`);
  });
  const purge = h("button", { class: "danger", type: "button", onclick: () => page.attempt(async () => page.say(`${(await operate("POST", page.endpoint, "purge-queue")).removed} removed from the queue`)) }, "Purge queue");
  const element = h("section", { class: "panel", "aria-label": "Requests" },
    h("div", { class: "head" }, h("h2", {}, "Requests"), text, status, worker, store.endpoints.length > 1 && h("label", { class: "field line" }, everywhere, h("span", {}, "All endpoints")), count, older,
      h("div", { class: "end" }, bulk, h("button", { class: "plain", type: "button", onclick: () => exported("jsonl") }, "JSON lines"), h("button", { class: "plain", type: "button", onclick: () => exported("har") }, "HAR"), purge)),
    list.element);
  draw();
  void searchAll();
  requestAnimationFrame(() => list.draw());
  return { element, list, changed: (/** @type {Set<string>} */ topics) => { if (topics.has("jobs") || topics.has("all")) draw(); } };
}
