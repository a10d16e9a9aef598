import { describe, expect } from "vitest";
import { captionService } from "../src/captions.js";
import { emulatorUrl, test as base } from "./emulator.js";

const MINUTE = 60_000;

const test = base.extend({
  captions: async ({ endpoint }, use) => {
    await use(
      captionService({ apiKey: "any", endpointId: endpoint.id, baseUrl: `${emulatorUrl}/v2` }),
    );
  },
});

describe("a caption", () => {
  test("is what the endpoint returns", async ({ endpoint, captions }) => {
    await endpoint.stub({ when: { input: { image: "cat.png" } }, returns: { caption: "a cat" } });
    await endpoint.stub({ when: { input: { image: "dog.png" } }, returns: { caption: "a dog" } });

    expect(await captions.caption("dog.png")).toBe("a dog");
    expect(await captions.caption("cat.png")).toBe("a cat");
  });

  test("that fails is an error that says why", async ({ endpoint, captions }) => {
    await endpoint.stub({ fails: "the image cannot be read" });

    await expect(captions.caption("cat.png")).rejects.toThrow("the image cannot be read");
  });

  test("is asked for once", async ({ endpoint, captions }) => {
    await endpoint.stub({ returns: { caption: "a cat" } });
    await captions.caption("cat.png");

    const requests = await endpoint.requests();
    expect(requests.map(({ operation }) => operation)).toEqual(["runsync"]);
    expect(requests[0].request.body).toEqual({ input: { image: "cat.png" } });
  });
});

describe("an order", () => {
  test("is waited for as long as it takes", async ({ endpoint, captions }) => {
    await endpoint.stub({ returns: { caption: "a cat" }, delay_ms: 5 * MINUTE });
    const id = await captions.order("cat.png");

    await endpoint.advance(4 * MINUTE);
    expect(await captions.progress(id)).toBe("waiting");
    await endpoint.advance(MINUTE);
    expect(await captions.progress(id)).toBe("done");
  });

  test("that takes too long has failed", async ({ endpoint, captions }) => {
    await endpoint.stub({ returns: { caption: "a cat" }, delay_ms: 5 * MINUTE });
    const id = await captions.order("cat.png", { patienceMs: 2 * MINUTE });

    await endpoint.advance(2 * MINUTE);
    expect(await captions.progress(id)).toBe("failed");
  });

  test("is told to a webhook that fails twice", async ({ endpoint, captions, createSink }) => {
    await endpoint.stub({ returns: { caption: "a cat" } });
    const webhook = await createSink(500, 503);
    const id = await captions.order("cat.png", { webhook: webhook.url });

    // The first attempt is made at once; each further one ten seconds after the one before, on the clock.
    expect(await webhook.wait(1)).toHaveLength(1);
    await endpoint.advance(9_999);
    expect(await webhook.wait(0)).toHaveLength(1);
    await endpoint.advance(1);
    expect(await webhook.wait(2)).toHaveLength(2);
    await endpoint.advance(10_000);

    const deliveries = await webhook.wait(3);
    expect(deliveries.map(({ status }) => status)).toEqual([500, 503, 200]);
    for (const { body } of deliveries) {
      expect(body).toMatchObject({ id, status: "COMPLETED", output: { caption: "a cat" } });
    }
  });
});
