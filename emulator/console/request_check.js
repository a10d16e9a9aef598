// What production would do with a request, said while it is typed (wire.md 2).

/** @typedef {import("./editor.js").Fault} Fault */

const KEYS = ["input", "policy", "s3Config", "webhook", "webhookV2"];
const POLICY_KEYS = ["executionTimeout", "lowPriority", "ttl"];
const DAY_MS = 86_400_000;

/** @param {string} text @returns {Fault[]} */
export function checkRequest(text) {
  /** @type {any} */
  let request;
  try {
    request = JSON.parse(text);
  } catch (error) {
    return [{ from: 0, to: text.length, severity: "error", message: `not valid JSON: ${/** @type {Error} */ (error).message}` }];
  }
  if (request === null || typeof request !== "object" || Array.isArray(request)) {
    return [{ from: 0, to: text.length, severity: "error", message: 'a request is a JSON object like {"input": {…}}: 400' }];
  }
  /** @type {Fault[]} */
  const faults = [];
  const say = (/** @type {string} */ key, /** @type {Fault["severity"]} */ severity, /** @type {string} */ message) => {
    const at = text.indexOf(`"${key}"`);
    faults.push({ from: Math.max(at, 0), to: at < 0 ? Math.min(1, text.length) : at + key.length + 2, severity, message });
  };
  if (request.input === undefined || request.input === null) say("input", "error", "input is missing or null: 400 here unless it was started with --missing-input accept; production takes it, and runs the job as an empty one");
  else if (typeof request.input === "object" && !Array.isArray(request.input) && !Object.keys(request.input).length) {
    say("input", "warning", "production's worker never receives {}: the job ends FAILED “job timed out after 1 retries”");
  }
  for (const key of Object.keys(request)) if (!KEYS.includes(key)) tellOdd(key, KEYS, "", say);
  const policy = request.policy;
  if (policy && typeof policy === "object") {
    for (const key of Object.keys(policy)) if (!POLICY_KEYS.includes(key)) tellOdd(key, POLICY_KEYS, "policy.", say);
    const timeout = policy.executionTimeout;
    if (typeof timeout === "number" && timeout < 5_000) say("executionTimeout", "error", "executionTimeout is in ms and must be above 5000: 400");
    else if (timeout === 5_000) say("executionTimeout", "warning", "the documents ask for more than 5000 ms; production takes it");
    if (policy.ttl !== undefined && !(policy.ttl >= 10_000 && policy.ttl <= 7 * DAY_MS)) say("ttl", "error", "ttl is in ms, from 10000 to 604800000 (7 days): 400");
  }
  const webhook = request.webhook;
  if (webhook && !(typeof webhook === "string" && /^https?:\/\/[^\s/]+/.test(webhook))) say("webhook", "error", "webhook must be a URL, http or https: 400");
  return faults;
}

/** @param {string} key @param {string[]} known @param {string} prefix @param {(key: string, severity: Fault["severity"], message: string) => void} say */
function tellOdd(key, known, prefix, say) {
  const near = known.find((each) => distance(each.toLowerCase(), key.toLowerCase()) <= 2);
  say(key, "warning", near ? `${prefix}${key} is not known: ${prefix}${near} is meant? Production ignores it` : `${prefix}${key} is handed on to the handler as it is; production knows no such key`);
}

/** How many letters differ. @param {string} a @param {string} b */
function distance(a, b) {
  let before = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) row[j] = Math.min(row[j - 1] + 1, before[j] + 1, before[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    before = row;
  }
  return before[b.length];
}
