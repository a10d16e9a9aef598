// Runs once, before all test files: an emulator for the whole run, or the one that EMULATOR_URL names.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

const PATIENCE_MS = 30_000;

export default async function setup({ provide }) {
  if (process.env.EMULATOR_URL) {
    provide("emulatorUrl", process.env.EMULATOR_URL.replace(/\/+$/, ""));
    return undefined;
  }
  // Port 0 takes any that is free, so several runs do not meet. Its log goes where vitest's does.
  const emulator = spawn("runpod-emulator", ["serve", "--port", "0"], {
    env: { EMULATOR_LOG_LEVEL: "warning", ...process.env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    provide("emulatorUrl", await urlOf(emulator));
  } catch (error) {
    emulator.kill("SIGKILL");
    throw error;
  }
  return async () => {
    if (emulator.exitCode === null && emulator.kill("SIGTERM")) {
      await once(emulator, "exit");
    }
  };
}

/** Reads what `serve` prints: a line with the URL, and then `Ready.` */
function urlOf(emulator) {
  return new Promise((resolve, reject) => {
    const overdue = setTimeout(
      () => reject(new Error(`the emulator is not ready after ${PATIENCE_MS} ms`)),
      PATIENCE_MS,
    );
    emulator.once("error", (error) => {
      clearTimeout(overdue);
      const hint = "install it (pip install runpod-emulator), or set EMULATOR_URL to one that runs";
      reject(error.code === "ENOENT" ? new Error(`there is no runpod-emulator on the PATH: ${hint}`) : error);
    });
    emulator.once("exit", (code) => {
      clearTimeout(overdue);
      reject(new Error(`the emulator ended with exit code ${code} before it was ready`));
    });
    let url;
    createInterface({ input: emulator.stdout }).on("line", (line) => {
      url ??= line.match(/^ {2}url +(\S+)/)?.[1];
      if (line === "Ready.") {
        clearTimeout(overdue);
        resolve(url);
      }
    });
  });
}
