// Calls the methods of runpod-sdk that test_js_sdk.py asks for: requests and replies are JSON, one a line.
//   {"id", "method", "args", ...}       → {"id", "value"}                    what the method resolved to
//   {"id", "stream": name, "args", ...} → {"id", "value": null}              opens a stream
//   {"id", "next": name}                → {"id", "value": {"value", "done"}} what that stream yields next
//   {"id", "methods": true, ...}        → {"id", "value"}                    the names of all methods
// where ... is "baseUrl", "key" and "endpoint". What throws is answered by
//   {"id", "error": {"name", "message", "status", "body"}}
import { createInterface } from "node:readline";

// The SDK prints to the console, which is where the replies go.
console.log = console.error;
const { default: runpodSdk } = await import("runpod-sdk");

const streams = new Map();

async function answer(request) {
  if (request.next) {
    return streams.get(request.next).next();
  }
  const endpoint = runpodSdk(request.key, { baseUrl: request.baseUrl }).endpoint(request.endpoint);
  if (request.methods) {
    return Object.getOwnPropertyNames(Object.getPrototypeOf(endpoint));
  }
  if (request.stream) {
    streams.set(request.stream, endpoint.stream(...request.args));
    return null;
  }
  return endpoint[request.method](...request.args);
}

// Requests are not answered in turn: one that waits does not hold up those after it.
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  const reply = (content) => process.stdout.write(JSON.stringify({ id: request.id, ...content }) + "\n");
  answer(request).then(
    (value) => reply({ value }),
    (error) =>
      reply({
        error: {
          name: error.name,
          message: error.message,
          status: error.response?.status,
          body: error.response?.data,
        },
      }),
  );
}
