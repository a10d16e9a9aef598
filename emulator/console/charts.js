// Lines over time.

import { h, moment } from "./dom.js";
import { Plot } from "./vendor/charts.js";

/** @typedef {{label: string, values: (number | null)[], colour: string, fill?: boolean}} Line */

/** A CSS colour by its name. @param {string} name */
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** @param {string} title @param {number[]} at_ms @param {Line[]} lines @param {(value: number) => string} shown @param {number} width */
export function chart(title, at_ms, lines, shown, width) {
  const place = h("div", { class: "chart", role: "img", "aria-label": `${title}: ${lines.map((line) => `${line.label} ${shownLast(line.values, shown)}`).join(", ")}` });
  const grid = { stroke: colour("line"), width: 1 };
  const axis = { stroke: colour("quiet"), grid, ticks: grid, font: "11px system-ui" };
  const plot = new Plot({
    width, height: 180, cursor: { y: false }, legend: { live: true },
    scales: { y: { range: (_plot, _low, high) => [0, Math.max(1, high * 1.1)] } },
    axes: [{ ...axis, values: (_plot, ticks, _i, _space, step) => ticks.map((each) => clockTime(each, step)) }, { ...axis, size: 62, values: (_plot, ticks) => ticks.map(shown) }],
    series: [{ label: "Time" }, ...lines.map((line) => ({
      label: line.label, stroke: colour(line.colour), width: 2, points: { show: line.values.filter((each) => each !== null).length < 40, size: 7 },
      fill: line.fill ? colour(`${line.colour}-soft`) : undefined, spanGaps: true, value: (/** @type {any} */ _plot, /** @type {number | null} */ value) => (value === null ? "–" : shown(value)),
    }))],
  }, /** @type {any} */ ([at_ms.map((ms) => ms / 1000), ...lines.map((line) => line.values)]), place);
  return { element: place, update: (/** @type {number[]} */ at, /** @type {(number | null)[][]} */ values) => plot.setData(/** @type {any} */ ([at.map((ms) => ms / 1000), ...values])), close: () => plot.destroy() };
}

/** @param {number} at_s @param {number} step_s */
function clockTime(at_s, step_s) {
  return moment(at_s * 1000).slice(0, step_s < 60 ? 8 : 5);
}

/** @param {(number | null)[]} values @param {(value: number) => string} shown */
function shownLast(values, shown) {
  const last = values.findLast((each) => each !== null);
  return last === undefined || last === null ? "none" : shown(last);
}
