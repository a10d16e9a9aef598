// A JSON value as a tree, raw, or as the picture or sound that it is. Branches are built when they are opened.

import { copyButton, download, fill, h } from "./dom.js";

const SHOWN = 100;
const LONG = 2_000, SHORT = 64;

/** @param {unknown} value @param {number} [depth] branches that are open at first @returns {HTMLElement} */
export function tree(value, depth = 2) {
  return h("div", { class: "tree" }, node(null, value, depth));
}

/** @param {string | null} name @param {unknown} value @param {number} depth @returns {HTMLElement} */
function node(name, value, depth) {
  const label = name === null ? null : h("span", { class: "key" }, `${name}: `);
  if (value === null || typeof value !== "object") return h("div", { class: "leaf" }, label, leaf(value), typeof value === "string" && media(value));
  const entries = Object.entries(value);
  const brackets = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
  if (!entries.length) return h("div", { class: "leaf" }, label, brackets.join(""));
  const branch = h("div");
  let built = 0;
  const build = () => {
    const next = entries.slice(built, built + SHOWN);
    branch.append(...next.map(([key, each]) => node(Array.isArray(value) ? String(key) : key, each, depth - 1)));
    built += next.length;
    if (built < entries.length) {
      const more = h("button", { class: "plain", type: "button", onclick: () => { more.remove(); build(); } }, `${entries.length - built} more`);
      branch.append(more);
    }
  };
  const details = h("details", { open: depth > 0, ontoggle: () => { if (details.open && !built) build(); } },
    h("summary", {}, label, h("span", { class: "quiet" }, `${brackets[0]} ${entries.length} ${brackets[1]}`)), branch);
  if (depth > 0) build();
  return details;
}

/** @param {unknown} value */
function leaf(value) {
  if (typeof value === "string") return string(value);
  return h("span", { class: typeof value === "number" ? "number" : "literal" }, String(value));
}

/** A long text is shown in part until it is asked for; of a file in base64 the beginning is enough. @param {string} text */
function string(text) {
  const shown = mediaSource(text)?.[1].startsWith("data:") ? SHORT : LONG;
  const element = h("span", { class: "string" }, JSON.stringify(text.length > shown ? `${text.slice(0, shown)}…` : text));
  if (text.length <= shown) return element;
  const more = h("button", { class: "plain", type: "button", onclick: () => fill(element, JSON.stringify(text)) }, `all ${text.length} characters`);
  element.append(" ", more);
  return element;
}

/** How each kind of file begins: what is where. @type {[number, string, string][]} */
const BEGINNINGS = [
  [0, "\x89PNG", "image/png"], [0, "\xff\xd8\xff", "image/jpeg"], [0, "GIF8", "image/gif"], [8, "WEBP", "image/webp"], [8, "WAVE", "audio/wav"],
  [0, "ID3", "audio/mpeg"], [0, "\xff\xfb", "audio/mpeg"], [0, "OggS", "audio/ogg"], [0, "fLaC", "audio/flac"], [4, "ftyp", "video/mp4"], [0, "\x1aE\xdf\xa3", "video/webm"],
];

/** The kind of file that a text is in base64; null when it is none. @param {string} text */
function kindOfBase64(text) {
  if (text.length < 60 || !/^[A-Za-z0-9+/]{60}/.test(text) || !/^[A-Za-z0-9+/]+=*$/.test(text.slice(0, 400).trim())) return null;
  const bytes = atob(text.slice(0, 16));
  return BEGINNINGS.find(([at, begins]) => bytes.startsWith(begins, at))?.[2] ?? null;
}
const BY_NAME = /\.(png|jpe?g|gif|webp|svg|mp3|wav|ogg|mp4|webm)(?:[?#]|$)/i;

/** What a text shows as, where it is a file in base64 or the address of one on this machine. @param {string} text */
export function media(text) {
  const source = mediaSource(text);
  if (!source) return null;
  const [type, url] = source;
  if (type.startsWith("image/")) return h("img", { class: "media", src: url, alt: "the image in the output", loading: "lazy" });
  if (type.startsWith("audio/")) return h("audio", { class: "media", src: url, controls: true });
  if (type.startsWith("video/")) return h("video", { class: "media", src: url, controls: true });
  return h("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, " open");
}

/** @param {string} text @returns {[string, string] | null} */
function mediaSource(text) {
  const data = text.match(/^data:((?:image|audio|video)\/[\w.+-]+);base64,[A-Za-z0-9+/=\s]+$/);
  if (data) return [data[1], text];
  const kind64 = kindOfBase64(text);
  if (kind64) return [kind64, `data:${kind64};base64,${text}`];
  if (!/^https?:\/\//.test(text) || text.length > 2_000 || /\s/.test(text)) return null;
  const named = text.match(BY_NAME);
  if (!named) return ["link", text];
  // Only this machine is asked for anything: others are linked.
  const near = ["127.0.0.1", "localhost", location.hostname].includes(new URL(text).hostname);
  const kind = /mp3|wav|ogg/i.test(named[1]) ? "audio" : /mp4|webm/i.test(named[1]) ? "video" : "image";
  return [near ? `${kind}/x` : "link", text];
}

/** A value with the ways to look at it. @param {unknown} value @param {string} name of the file to download */
export function valueView(value, name) {
  const text = JSON.stringify(value, null, 2);
  const place = h("div");
  const show = (/** @type {string} */ how) => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.textContent === how));
    fill(place, how === "Tree" ? tree(value) : h("pre", {}, text.length > 500_000 ? `${text.slice(0, 500_000)}\n… download the rest` : text));
  };
  const buttons = ["Tree", "Raw"].map((how) => h("button", { type: "button", onclick: () => show(how) }, how));
  show("Tree");
  return h("div", { class: "stack" }, h("div", { class: "row" }, h("div", { class: "tabs" }, buttons),
    copyButton(() => text), h("button", { class: "plain", type: "button", onclick: () => download(text, `${name}.json`) }, "Download")), place);
}

/** A job's error: its headline and its traceback, unfolded. @param {string} error */
export function errorView(error) {
  /** @type {any} */
  let fields = null;
  try { fields = JSON.parse(error); } catch { /* plain text */ }
  if (fields && typeof fields === "object" && typeof fields.error_traceback === "string") {
    const kind = String(fields.error_type).replace(/^<class '(?:builtins\.)?(.+)'>$/, "$1");
    return h("div", { class: "stack" }, h("p", { class: "error-text" }, h("b", {}, kind), `: ${fields.error_message}`),
      h("pre", { class: "traceback", tabindex: 0, role: "region", "aria-label": "Traceback" }, fields.error_traceback));
  }
  return fields && typeof fields === "object" ? tree(fields) : h("pre", { class: "error-text" }, error);
}
