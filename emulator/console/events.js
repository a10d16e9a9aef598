// The one stream of events. It is read by fetch, as an EventSource could not send the key.

import { key, onKeyWanted } from "./api.js";

const FIRST_WAIT_MS = 300;
const LONGEST_WAIT_MS = 5_000;
/** The emulator gives a sign of life every 15 s: after twice that the connection is dead, be it that nobody said so. */
const SILENCE_MS = 32_000;

/** @typedef {{kind: string, data: any}} Told */

export class EventStream {
  /**
   * @param {(events: Told[]) => void} tell what came at one time
   * @param {(state: "live" | "lost") => void} onState
   */
  constructor(tell, onState) {
    this._tell = tell;
    this._onState = onState;
    this._lastId = "";
    this._wait = FIRST_WAIT_MS;
    /** @type {AbortController | null} */
    this._open = null;
    this._closed = false;
    this._wake = () => {};
    // A laptop that wakes, or comes back to its network, need not wait.
    addEventListener("online", () => this._wake());
    document.addEventListener("visibilitychange", () => document.hidden || this._wake());
  }

  async run() {
    while (!this._closed) {
      try {
        await this._read();
      } catch { /* it is told by the state */ }
      this._onState("lost");
      await new Promise((resolve) => {
        this._wake = () => resolve(null);
        setTimeout(resolve, this._wait);
      });
      this._wait = Math.min(this._wait * 2, LONGEST_WAIT_MS);
    }
  }

  /** Begin anew, as with another key. */
  reopen() {
    this._open?.abort();
    this._wait = FIRST_WAIT_MS;
    this._wake();
  }

  async _read() {
    const open = (this._open = new AbortController());
    const headers = { ...key.header(), accept: "text/event-stream", ...(this._lastId ? { "last-event-id": this._lastId } : {}) };
    const answer = await fetch("/_emulator/events", { headers, signal: open.signal, cache: "no-store" });
    if (answer.status === 401) onKeyWanted.forEach((told) => told());
    if (!answer.ok || !answer.body) throw new Error(`${answer.status}`);
    this._onState("live");
    this._wait = FIRST_WAIT_MS;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const silence = setTimeout(() => open.abort(), SILENCE_MS);
      const { done, value } = await reader.read().finally(() => clearTimeout(silence));
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop() ?? "";
      const events = blocks.map((block) => this._parse(block)).filter((each) => each !== null);
      if (events.length) this._tell(events);
    }
  }

  /** @param {string} block @returns {Told | null} */
  _parse(block) {
    let kind = "message", data = "";
    for (const line of block.split("\n")) {
      if (line.startsWith("event: ")) kind = line.slice(7);
      else if (line.startsWith("data: ")) data += line.slice(6);
      else if (line.startsWith("id: ")) this._lastId = line.slice(4);
    }
    return data ? { kind, data: JSON.parse(data) } : null;
  }
}
