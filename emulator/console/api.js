// The emulator's two APIs, as the page calls them.

const KEPT = "emulator.key";

/** The emulator has refused, or is not there (status 0). */
export class Refused extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The API key that the user has given; kept for as long as the tab is open. */
export const key = {
  get: () => sessionStorage.getItem(KEPT) ?? "",
  set: (/** @type {string} */ value) => sessionStorage.setItem(KEPT, value),
  /** A header in any case: production's API asks for some key always. */
  header: () => ({ authorization: `Bearer ${key.get() || "local"}` }),
};

/** Told when a key is asked for and the one there is does not pass. @type {Set<() => void>} */
export const onKeyWanted = new Set();

/**
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body] an object, sent as JSON, or JSON text
 * @param {AbortSignal} [signal] to give up
 * @returns {Promise<any>} the answer: JSON where it is JSON, else text
 */
export async function call(method, path, body, signal) {
  /** @type {Response} */
  let answer;
  try {
    answer = await fetch(path, {
      method,
      signal,
      headers: { ...key.header(), ...(body === undefined ? {} : { "content-type": "application/json" }) },
      body: body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body),
    });
  } catch {
    throw new Refused(0, "the emulator cannot be reached");
  }
  const text = await answer.text();
  // Lines of JSON are text.
  const isJson = /^application\/json(;|$)/.test(answer.headers.get("content-type") ?? "");
  const content = isJson && text ? JSON.parse(text) : text;
  if (answer.ok) return content;
  if (answer.status === 401) onKeyWanted.forEach((told) => told());
  throw new Refused(answer.status, content?.error?.message ?? content?.error ?? content?.detail ?? `${answer.status}`);
}

/** A connection may die and nobody say so: what is to be asked again would wait for it. */
const PATIENCE_MS = 60_000;
export const get = (/** @type {string} */ path) => call("GET", `/_emulator${path}`, undefined, AbortSignal.timeout(PATIENCE_MS));
export const post = (/** @type {string} */ path, /** @type {unknown} */ body = {}) => call("POST", `/_emulator${path}`, body);
export const put = (/** @type {string} */ path, /** @type {unknown} */ body) => call("PUT", `/_emulator${path}`, body);
export const patch = (/** @type {string} */ path, /** @type {unknown} */ body) => call("PATCH", `/_emulator${path}`, body);
export const remove = (/** @type {string} */ path) => call("DELETE", `/_emulator${path}`);
/** An operation of an endpoint. @param {string} method @param {string} endpoint @param {string} operation @param {unknown} [body] */
export const operate = (method, endpoint, operation, body) => call(method, `/v2/${encodeURIComponent(endpoint)}/${operation}`, body);
