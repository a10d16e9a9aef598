// The console's charts; bundled into emulator/console/vendor/charts.js.
export { default as Plot } from "uplot";
