// What the page knows, kept current by the events. Tabs are told of changes together, a few times a second.

import { get } from "./api.js";

/**
 * @typedef {object} Brief a job in a few words, as /_emulator/jobs/list has it
 * @property {string} id
 * @property {string} endpoint
 * @property {string} status
 * @property {boolean} sync
 * @property {string | null} worker_id
 * @property {number} submitted_ms
 * @property {number | null} started_ms
 * @property {number | null} ended_ms
 * @property {number | null} delay_ms
 * @property {number | null} execution_ms
 * @property {number} retries
 * @property {string | null} again_of
 * @property {string | null} error
 * @property {string} preview
 */

const PAGE = 1_000;
/** Of log lines and notes, the newest. */
const LINES = 5_000;
/** Tabs draw anew so often at most: a change after a rest at once, hundreds in a second together. */
const TELL_EVERY_MS = 100;

export class Store {
  constructor() {
    /** @type {any[]} */
    this.endpoints = [];
    /** @type {any[]} */
    this.workers = [];
    /** @type {Record<string, string>} */
    this.obstacles = {};
    /** @type {Map<string, Brief>} */
    this.jobs = new Map();
    /** Oldest first. @type {string[]} */
    this.order = [];
    /** Where the jobs begin that have not been loaded; null when all are. @type {number | null} */
    this.older = null;
    /** @type {any[]} */
    this.lines = [];
    /** @type {any} */
    this.clock = null;
    this.connected = false;
    /** Whether other machines may reach it without a key. */
    this.open = false;
    /** Counts up with each change of a kind. @type {Record<string, number>} */
    this.versions = {};
    this._told_at = -Infinity;
    /** @type {Set<(changed: Set<string>) => void>} */
    this._told = new Set();
    /** @type {Set<string>} */
    this._changed = new Set();
    /** What is to be asked for soon, or once more. @type {Map<string, {ask: (() => Promise<unknown>) | null}>} */
    this._refreshes = new Map();
    /** Questions are numbered; of each topic, the last one whose answer was taken. @type {Record<string, number>} */
    this._taken = {};
    this._asked = 0;
    /** For each time that all is being loaded, what is told meanwhile. @type {Set<import("./events.js").Told[]>} */
    this._meanwhile = new Set();
    /** @type {Set<(kind: string, data: any) => void>} */
    this.listeners = new Set();
  }

  /** @param {(changed: Set<string>) => void} tell @returns {() => void} that ends it */
  subscribe(tell) {
    this._told.add(tell);
    return () => this._told.delete(tell);
  }

  /** @param {string} topic */
  changed(topic) {
    this.versions[topic] = (this.versions[topic] ?? 0) + 1;
    if (!this._changed.size) {
      const wait_ms = this._told_at + TELL_EVERY_MS - performance.now();
      if (wait_ms > 0) setTimeout(() => requestAnimationFrame(() => this._tell()), wait_ms);
      else requestAnimationFrame(() => this._tell());
    }
    this._changed.add(topic);
  }

  _tell() {
    const changed = this._changed;
    this._changed = new Set();
    this._told_at = performance.now();
    for (const tell of this._told) tell(changed);
  }

  /** Everything anew: at the beginning, and when events were missed. What is told meanwhile may be newer, and stays. */
  async load() {
    const number = ++this._asked;
    const meanwhile = /** @type {import("./events.js").Told[]} */ ([]);
    this._meanwhile.add(meanwhile);
    try {
      const [page, logs] = await Promise.all([
        get(`/jobs/list?limit=${PAGE}`), get("/logs?limit=2000"),
        this.loadEndpoints(), this.loadWorkers(), this.loadClock(),
      ]);
      if (!this._isNews("all", number)) return;
      this.jobs = new Map();
      this.order = [];
      this._addOlder(page);
      this.lines = logs.lines;
      for (const { kind, data } of meanwhile) kind === "log" ? this._addLine(data) : this._applyJob(data.job);
      for (const topic of ["jobs", "logs", "all"]) this.changed(topic);
    } finally {
      this._meanwhile.delete(meanwhile);
    }
  }

  async loadOlder() {
    if (this.older === null) return;
    const offset = this.older;
    this.older = null;
    this._addOlder(await get(`/jobs/list?limit=${10 * PAGE}&offset=${offset}`));
    this.changed("jobs");
  }

  /** @param {{jobs: Brief[], next: number | null}} page */
  _addOlder(page) {
    const fresh = page.jobs.filter((job) => !this.jobs.has(job.id)).reverse();
    for (const job of fresh) this.jobs.set(job.id, job);
    this.order = [...fresh.map((job) => job.id), ...this.order];
    this.older = page.next;
  }

  loadWorkers() {
    return this._ask("workers", "/workers", ({ workers, obstacles }) => {
      this.workers = workers;
      this.obstacles = obstacles;
    });
  }

  loadEndpoints() {
    return this._ask("endpoints", "/endpoints", ({ endpoints }) => { this.endpoints = endpoints; });
  }

  loadClock() {
    return this._ask("clock", "/clock", (clock) => { this.clock = { ...clock, read_at: performance.now() }; });
  }

  /** @param {string} topic @param {string} path @param {(answer: any) => void} take */
  async _ask(topic, path, take) {
    const number = ++this._asked;
    const answer = await get(path);
    if (!this._isNews(topic, number)) return;
    take(answer);
    this.changed(topic);
  }

  /** Whether an answer has not been overtaken by that to a later question. @param {string} topic @param {number} number */
  _isNews(topic, number) {
    if (number < (this._taken[topic] ?? 0)) return false;
    this._taken[topic] = number;
    return true;
  }

  /** The emulated time now. */
  now() {
    const clock = this.clock;
    return clock ? clock.now_ms + (performance.now() - clock.read_at) * clock.rate : Date.now();
  }

  /** @param {import("./events.js").Told[]} events */
  apply(events) {
    for (const { kind, data } of events) {
      switch (kind) {
        case "hello":
          this.open = data.open;
          this.changed("endpoints");
          if (!data.resumed || data.missed) this.refresh("all", () => this.load(), 0);
          break;
        case "missed":
        case "reset":
          this.refresh("all", () => this.load(), 0);
          break;
        case "job":
          if (data.job) {
            this._applyJob(data.job);
            for (const told of this._meanwhile) told.push({ kind, data });
          }
          this.refresh("endpoints", () => this.loadEndpoints());
          this.refresh("workers", () => this.loadWorkers());
          break;
        case "pool":
          this.refresh("workers", () => this.loadWorkers());
          this.refresh("endpoints", () => this.loadEndpoints());
          break;
        case "endpoint":
          this.refresh("endpoints", () => this.loadEndpoints());
          break;
        case "log":
          this._addLine(data);
          for (const told of this._meanwhile) told.push({ kind, data });
          break;
        case "clock":
          this.refresh("clock", () => this.loadClock());
          break;
      }
      for (const tell of this.listeners) tell(kind, data);
    }
  }

  /** @param {any} line */
  _addLine(line) {
    if (line.number <= (this.lines.at(-1)?.number ?? 0)) return;
    this.lines.push(line);
    if (this.lines.length > LINES * 1.2) this.lines.splice(0, this.lines.length - LINES);
    this.changed("logs");
  }

  /** @param {Brief} job */
  _applyJob(job) {
    if (!this.jobs.has(job.id)) this.order.push(job.id);
    this.jobs.set(job.id, job);
    this.changed("jobs");
  }

  /**
   * Ask for something soon, once for all the events that come until then; what comes while it is being asked for, for
   * which the answer may be too old, is asked for after it.
   * @param {string} what @param {() => Promise<unknown>} ask @param {number} [after_ms]
   */
  refresh(what, ask, after_ms = 250) {
    const under = this._refreshes.get(what);
    if (under) {
      under.ask = ask;
      return;
    }
    /** @type {{ask: (() => Promise<unknown>) | null}} */
    const refresh = { ask };
    this._refreshes.set(what, refresh);
    setTimeout(async () => {
      const last = refresh.ask ?? ask;
      refresh.ask = null;
      await last().catch(() => {});
      this._refreshes.delete(what);
      if (refresh.ask) this.refresh(what, refresh.ask, after_ms);
    }, after_ms);
  }
}
