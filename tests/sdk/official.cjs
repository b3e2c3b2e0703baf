// What the official JavaScript SDK makes of a server, as one JSON object; its address is the first argument.
const OpenAI = require("openai");
const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });

const messages = [{ role: "user", content: "Hi" }];
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false };
const weather = { type: "function", function: { name: "weather", parameters } };
const schema = { type: "object", properties: { n: { type: "integer" } }, required: ["n"], additionalProperties: false };

async function streamed() {
  const stream = await client.chat.completions.create({ model: "m", messages, stream: true, stream_options: { include_usage: true } });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
  return { text, finish: chunks.at(-2).choices[0].finish_reason, usage: chunks.at(-1).usage.total_tokens };
}

async function called() {
  const runner = client.chat.completions.stream({ model: "m", messages, tools: [weather] });
  const { message, finish_reason } = (await runner.finalChatCompletion()).choices[0];
  const [call] = message.tool_calls;
  const told = [...messages, message, { role: "tool", tool_call_id: call.id, content: "sun" }];
  const after = await client.chat.completions.create({ model: "m", messages: told, tools: [weather] });
  return { finish_reason, name: call.function.name, arguments: JSON.parse(call.function.arguments), text: after.choices[0].message.content };
}

async function shaped() {
  const response_format = { type: "json_schema", json_schema: { name: "number", schema, strict: true } };
  const made = await client.chat.completions.parse({ model: "m", messages, response_format });
  const broken = await refused(client.chat.completions.create({ model: "m", messages, response_format }));
  return { parsed: made.choices[0].message.parsed, broken };
}

async function refused(promise) {
  try {
    await promise;
  } catch (error) {
    return { kind: error.constructor.name, status: error.status, code: error.code, param: error.param };
  }
}

async function responses() {
  const made = await client.responses.create({ model: "m", input: "Hi" });
  const stream = client.responses.stream({ model: "m", input: "And?", previous_response_id: made.id, tools: [{ type: "function", name: "weather", parameters, strict: true }] });
  const types = new Set();
  for await (const event of stream) types.add(event.type);
  const final = await stream.finalResponse();
  const kept = await client.responses.retrieve(made.id);
  return { text: kept.output_text, types: [...types], call: final.output[0].name, usage: final.usage.total_tokens };
}

async function main() {
  const found = { streamed: await streamed(), called: await called(), shaped: await shaped() };
  found.wrong = await refused(client.chat.completions.create({ model: "m", messages, temperature: 3 }));
  found.two = await refused(client.chat.completions.create({ model: "m", messages, n: 2 }));
  found.responses = await responses();
  console.log(JSON.stringify(found));
}

main();
