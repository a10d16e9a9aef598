// Calls a URL so many times on one kept-alive connection, with a pause before each call but the first, and prints
// what was answered: node pausing.mjs fetch|agent URL KEY PAUSE_S CALLS
import { Agent, request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

const [way, url, key, pauseS, calls] = process.argv.slice(2);
const body = JSON.stringify({ input: { n: 1 } });
const options = { method: "POST", headers: { authorization: key, "content-type": "application/json" } };

const agent = new Agent({ keepAlive: true, maxSockets: 1 });

async function byFetch() {
  return (await fetch(url, { ...options, body })).json();
}

function byAgent() {
  return new Promise((resolve, reject) => {
    const call = request(url, { ...options, agent }, async (answer) => {
      try {
        resolve(JSON.parse((await answer.toArray()).join("")));
      } catch (error) {
        reject(error);
      }
    });
    call.on("error", reject);
    call.end(body);
  });
}

const answers = [];
for (let number = 0; number < Number(calls); number++) {
  if (number > 0) {
    await sleep(Number(pauseS) * 1000);
  }
  answers.push(await { fetch: byFetch, agent: byAgent }[way]());
}
process.stdout.write(JSON.stringify(answers));
agent.destroy();
