// The list of jobs: only what can be seen of it is in the page, however long it is.

import { badge, duration, fill, h, moment } from "./dom.js";

const ROW = 32, BEYOND = 6;

/** @typedef {import("./store.js").Brief} Brief */

export class JobList {
  /** @param {{open: (id: string) => void, selected: (count: number) => void}} told */
  constructor(told) {
    this._told = told;
    /** Newest first. @type {Brief[]} */
    this.jobs = [];
    /** @type {Set<string>} */
    this.selection = new Set();
    this.chosen = -1;
    this._space = h("div", { class: "space", role: "presentation" });
    this._list = h("div", { class: "list", tabindex: 0, role: "list", "aria-label": "Jobs", onscroll: () => this.draw() }, this._space);
    this._all = h("input", { type: "checkbox", "aria-label": "Select all", onchange: () => this.selectAll(this._all.checked) });
    this.element = h("div", {}, h("div", { class: "jobhead" }, h("span", {}, this._all), h("span", {}, "Status"), h("span", { class: "wide" }, "Submitted"), h("span", {}, "Id"),
      h("span", { class: "wide" }, "Input or error"), h("span", { class: "number wide" }, "Delay"), h("span", { class: "number" }, "Execution")), this._list);
  }

  /** @param {Brief[]} jobs */
  set(jobs) {
    const chosen = this.jobs[this.chosen]?.id;
    this.jobs = jobs;
    if (chosen) this.chosen = jobs.findIndex((job) => job.id === chosen);
    this._space.style.height = `${jobs.length * ROW}px`;
    this.draw();
  }

  /** @param {boolean} all */
  selectAll(all) {
    this.selection = new Set(all ? this.jobs.map((job) => job.id) : []);
    this._told.selected(this.selection.size);
    this.draw();
  }

  /** @param {number} by */
  move(by) {
    this.chosen = Math.max(0, Math.min(this.jobs.length - 1, this.chosen + by));
    const top = this.chosen * ROW;
    if (top < this._list.scrollTop) this._list.scrollTop = top;
    else if (top + ROW > this._list.scrollTop + this._list.clientHeight) this._list.scrollTop = top + ROW - this._list.clientHeight;
    this.draw();
  }

  openChosen() {
    const job = this.jobs[this.chosen];
    if (job) this._told.open(job.id);
  }

  draw() {
    const first = Math.max(0, Math.floor(this._list.scrollTop / ROW) - BEYOND);
    const last = Math.min(this.jobs.length, first + Math.ceil((this._list.clientHeight || 420) / ROW) + 2 * BEYOND);
    const focused = document.activeElement?.closest?.(".jobrow")?.getAttribute("data-id");
    const rows = this.jobs.slice(first, last).map((job, i) => this._row(job, first + i));
    fill(this._space, rows.length ? rows : h("p", { class: "empty", role: "listitem" }, "No jobs. Send one above, or by any client: they appear here as they come."));
    if (focused) this._space.querySelector(`[data-id="${CSS.escape(focused)}"] input`)?.dispatchEvent(new Event("keep"));
    this._all.checked = this.jobs.length > 0 && this.selection.size >= this.jobs.length;
  }

  /** @param {Brief} job @param {number} index */
  _row(job, index) {
    const box = h("input", { type: "checkbox", ".checked": this.selection.has(job.id), "aria-label": `Select job ${job.id}`, onclick: (/** @type {Event} */ event) => event.stopPropagation(), onchange: () => {
      if (box.checked) this.selection.add(job.id);
      else this.selection.delete(job.id);
      this._told.selected(this.selection.size);
    } });
    const row = h("div", { class: index === this.chosen ? "jobrow chosen" : "jobrow", role: "listitem", "data-id": job.id, onclick: () => this._told.open(job.id) },
      h("span", {}, box), h("span", {}, badge(job.status)), h("span", { class: "quiet wide" }, moment(job.submitted_ms)),
      h("a", { class: "mono", href: `#/${encodeURIComponent(job.endpoint)}/requests/${encodeURIComponent(job.id)}`, title: job.id, onclick: (/** @type {Event} */ event) => event.stopPropagation() }, job.id),
      h("span", { class: job.error ? "mono error-text wide" : "mono wide", title: job.error ?? "" }, job.error ?? job.preview),
      h("span", { class: "number wide" }, duration(job.delay_ms)), h("span", { class: "number" }, duration(job.execution_ms)));
    row.style.top = `${index * ROW}px`;
    return row;
  }
}
