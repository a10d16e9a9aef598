// The code under test: what an app would have. Nothing in it knows of the emulator but the base URL it is given.
import runpodSdk from "runpod-sdk";

export function captionService({ apiKey, endpointId, baseUrl }) {
  const endpoint = runpodSdk(apiKey, { baseUrl }).endpoint(endpointId);

  return {
    /** The caption of an image; waits for it. */
    async caption(image) {
      const job = await endpoint.runSync({ input: { image } });
      if (job.status !== "COMPLETED") {
        throw new Error(`no caption for ${image}: ${job.error ?? job.status}`);
      }
      return job.output.caption;
    },

    /** Orders a caption that may take a while; the webhook is called when it is there. Returns the job's id. */
    async order(image, { webhook, patienceMs } = {}) {
      const policy = patienceMs && { executionTimeout: patienceMs };
      const { id } = await endpoint.run({ input: { image }, webhook, policy });
      return id;
    },

    /** What has become of an order: "waiting", "done" or "failed". */
    async progress(id) {
      const { status } = await endpoint.status(id);
      return { COMPLETED: "done", IN_QUEUE: "waiting", IN_PROGRESS: "waiting" }[status] ?? "failed";
    },
  };
}
