// What tests do to the emulator, by its control API (`/_emulator/docs` of a running one lists all of it).
import { randomUUID } from "node:crypto";
import { test as base, inject } from "vitest";

export const emulatorUrl = inject("emulatorUrl");

/** A call of the control API; throws with the emulator's own explanation. */
async function control(method, path, body) {
  const response = await fetch(`${emulatorUrl}/_emulator${path}`, {
    method,
    headers: body && { "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) {
    throw new Error(`${method} ${path}: ${answer.error?.message ?? response.status}`);
  }
  return answer;
}

/** An endpoint that nobody else knows of, with a clock of its own that stands still. */
async function createEndpoint() {
  const id = `test-${randomUUID()}`;
  await control("PUT", `/endpoints/${id}`, { clock: "frozen" });
  return {
    id,
    /** Jobs with such an input end so: `{when: {input}, returns, fails, chunks, progress, delay_ms, times}`. */
    stub: (stub) => control("POST", `/endpoints/${id}/stubs`, stub),
    /** Moves its time; what that causes has settled when this resolves. */
    advance: (ms) => control("POST", `/clock/advance?endpoint=${id}`, { by_ms: ms }),
    /** The calls it has received: `{operation, request, status, …}`, oldest first. */
    requests: async () => (await control("GET", `/journal?kind=api&endpoint=${id}`)).entries,
    remove: () => control("DELETE", `/endpoints/${id}`),
  };
}

/** A webhook receiver that answers with these statuses, one after the other, and then with 200. */
async function createSink(endpoint, ...answers) {
  const name = `sink-${randomUUID()}`;
  const { url } = await control("PUT", `/sinks/${name}/answers`, { answers });
  return {
    url,
    /** The deliveries, once there are so many of them. */
    async wait(count) {
      const path = `/sinks/${name}/wait?endpoint=${endpoint.id}`;
      const { deliveries } = await control("POST", path, { count, timeout_ms: 5_000 });
      return deliveries;
    },
  };
}

export const test = base.extend({
  endpoint: async ({}, use) => {
    const endpoint = await createEndpoint();
    await use(endpoint);
    await endpoint.remove();
  },
  createSink: async ({ endpoint }, use) => {
    await use((...answers) => createSink(endpoint, ...answers));
  },
});
