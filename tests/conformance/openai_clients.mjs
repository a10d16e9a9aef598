// What JavaScript's OpenAI clients get from the emulator; prints it as JSON.
//     node openai_clients.mjs ENDPOINT_URL KEY
import { createRunpod } from "@runpod/ai-sdk-provider";
import { generateText, streamText } from "ai";
import OpenAI from "openai";

const [url, apiKey] = process.argv.slice(2);
const baseURL = `${url}/openai/v1`;
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Hello there my friend" }];
const model = "toy";

async function gathered(stream, piece) {
  const pieces = [];
  for await (const each of stream) pieces.push(piece(each));
  return pieces;
}

async function thrown(promise) {
  try {
    await promise;
    return null;
  } catch (error) {
    return { name: error.constructor.name, status: error.status, message: error.message };
  }
}

const answer = await client.chat.completions.create({ model, messages });
const stream = await client.chat.completions.create({ model, messages, stream: true });
const response = await client.responses.create({ model, input: "Hello there" });
const provider = createRunpod({ baseURL, apiKey });
const text = await generateText({ model: provider(model), prompt: "Hello there", maxRetries: 0 });
const streamed = streamText({ model: provider(model), prompt: "Hello there", maxRetries: 0 });

console.log(
  JSON.stringify({
    chat: answer.choices[0].message.content,
    streamed: await gathered(stream, (chunk) => chunk.choices[0]?.delta?.content ?? null),
    models: await gathered(await client.models.list(), (each) => each.id),
    embedding: (await client.embeddings.create({ model, input: "a" })).data[0].embedding.length,
    response: response.output_text,
    refused: await thrown(client.chat.completions.create({ model: "none", messages })),
    provider: text.text,
    providerStreamed: await gathered(streamed.textStream, (piece) => piece),
  }),
);
