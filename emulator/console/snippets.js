// A request as code, for this emulator or for production.

/** @param {"curl" | "Python" | "JavaScript"} language @param {string} base ends in /v2 @param {string} endpoint @param {string} operation @param {string} body */
export function snippet(language, base, endpoint, operation, body) {
  /** @type {any} */
  let request;
  try { request = JSON.parse(body); } catch { request = { input: {} }; }
  if (language === "curl") {
    return `curl -X POST ${base}/${endpoint}/${operation} \\\n  -H "Authorization: Bearer $RUNPOD_API_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d '${JSON.stringify(request).replaceAll("'", `'\\''`)}'`;
  }
  const pretty = JSON.stringify(request, null, 4);
  if (language === "Python") {
    const lines = ["import os", "", "import runpod", "", 'runpod.api_key = os.environ["RUNPOD_API_KEY"]', `runpod.endpoint_url_base = "${base}"`, "", `endpoint = runpod.Endpoint("${endpoint}")`];
    const data = toPython(pretty);
    return [...lines, ...(operation === "runsync" ? [`print(endpoint.run_sync(${data}))`] : [`job = endpoint.run(${data})`, "print(job.output())"])].join("\n");
  }
  return `import runpodSdk from "runpod-sdk";\n\nconst runpod = runpodSdk(process.env.RUNPOD_API_KEY, { baseUrl: "${base}" });\nconst endpoint = runpod.endpoint("${endpoint}");\nconst result = await endpoint.${operation === "runsync" ? "runSync" : "run"}(${JSON.stringify(request, null, 2)});\nconsole.log(result);`;
}

/** JSON's words are not Python's; those within strings stay. @param {string} text */
function toPython(text) {
  return text.replace(/"(?:[^"\\]|\\.)*"|\b(?:true|false|null)\b/g, (word) => ({ true: "True", false: "False", null: "None" })[word] ?? word);
}
