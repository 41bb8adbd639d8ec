// Checks the gateway at BASE_URL with the official Node SDK.
//
//   node_checks.cjs all CHAT_MODEL EMBED_MODEL      one line of JSON per check: {"check", "error"}
//   node_checks.cjs until_error MODEL               prints what it reads of a stream; exits with 0 only if the SDK throws an APIError
const assert = require("node:assert/strict");
const OpenAI = require("openai");

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "unused", maxRetries: 0, timeout: 60_000 });
const HELLO = "Hello from the tiny test model.";
const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather in a city",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

const say = (content) => [{ role: "user", content }];
const isNotFound = (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found";

async function all(events) {
  const chunks = [];
  for await (const chunk of events) chunks.push(chunk);
  return chunks;
}
const text = (chunks) => chunks.map((c) => c.choices[0]?.delta.content ?? "").join("");

const checks = {
  async chat(model) {
    const answer = await client.chat.completions.create({ model, messages: say("hi") });
    assert.equal(answer.choices[0].message.content, HELLO);
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.ok(answer.usage.completion_tokens > 0);
  },
  async stream(model) {
    const chunks = await all(await client.chat.completions.create({ model, messages: say("hi"), stream: true }));
    assert.equal(text(chunks), HELLO);
    assert.deepEqual(chunks.filter((c) => c.usage), []);
    assert.equal(chunks.at(-1).choices[0].finish_reason, "stop");
  },
  async stream_with_usage(model) {
    const chunks = await all(await client.chat.completions.create({ model, messages: say("hi"), stream: true, stream_options: { include_usage: true } }));
    assert.equal(text(chunks), HELLO);
    assert.equal(chunks.filter((c) => c.usage).length, 1);
    assert.ok(chunks.at(-1).usage.completion_tokens > 0);
  },
  async stream_helper(model) {
    assert.equal(await client.chat.completions.stream({ model, messages: say("hi") }).finalContent(), HELLO);
  },
  async stream_left_early(model) {
    const events = await client.chat.completions.create({ model, messages: say("LONG"), stream: true, max_tokens: 500 });
    for await (const chunk of events) if (chunk.choices[0]?.delta.content) break; // leaving the loop aborts the request
    await checks.chat(model);
  },
  async tools(model) {
    const question = { model, tools: [WEATHER], messages: say("Weather?") };
    const answer = await client.chat.completions.create(question);
    const call = answer.choices[0].message.tool_calls[0];
    assert.equal(call.function.name, "get_weather");
    assert.deepEqual(JSON.parse(call.function.arguments), { city: "Paris" });
    const messages = [...question.messages, answer.choices[0].message, { role: "tool", tool_call_id: call.id, content: "21" }];
    const next = await client.chat.completions.create({ ...question, messages });
    assert.equal(next.choices[0].message.content, "It is 21 degrees!");
  },
  async tools_stream(model) {
    const answer = await client.chat.completions.stream({ model, tools: [WEATHER], messages: say("Weather?") }).finalChatCompletion();
    const calls = answer.choices[0].message.tool_calls;
    assert.equal(calls.length, 1);
    assert.equal(calls[0].function.name, "get_weather");
    assert.deepEqual(JSON.parse(calls[0].function.arguments), { city: "Paris" });
  },
  async completions(model) {
    const answer = await client.completions.create({ model, prompt: "LONG", max_tokens: 3 });
    assert.equal(answer.choices[0].text, " one two three");
  },
  async embeddings(_, model) { // the SDK asks for base64 by itself
    const answer = await client.embeddings.create({ model, input: ["one", "another"] });
    assert.deepEqual(answer.data.map((d) => d.embedding.length), [64, 64]);
    const floats = await client.embeddings.create({ model, input: "one", encoding_format: "float" });
    answer.data[0].embedding.forEach((x, i) => assert.ok(Math.abs(x - floats.data[0].embedding[i]) < 1e-3));
  },
  async models(model) {
    const ids = (await all(client.models.list())).map((m) => m.id);
    assert.ok(ids.includes(model), ids.join());
    assert.equal((await client.models.retrieve(model)).id, model);
    assert.equal((await client.models.retrieve("org/chat:v1")).id, "org/chat:v1");
  },
  async not_found() {
    await assert.rejects(client.chat.completions.create({ model: "nobody-has-this", messages: say("hi") }), isNotFound);
  },
  async not_found_stream() {
    await assert.rejects(client.chat.completions.create({ model: "nobody-has-this", messages: say("hi"), stream: true }), isNotFound);
  },
  async context_too_long() { // Ollama 0.11.4 cuts the prompt instead
    const asked = client.chat.completions.create({ model: "llama-chat", messages: say("x".repeat(6000)) });
    await assert.rejects(asked, (error) => error instanceof OpenAI.BadRequestError && error.type === "exceed_context_size_error");
  },
  async responses(model) {
    assert.equal((await client.responses.create({ model, input: "hi" })).output_text, HELLO);
    const events = await all(await client.responses.create({ model, input: "hi", stream: true }));
    assert.equal(events.filter((e) => e.type === "response.output_text.delta").map((e) => e.delta).join(""), HELLO);
    assert.equal(events.at(-1).type, "response.completed");
  },
};

async function runAll(chatModel, embedModel) {
  for (const [check, run] of Object.entries(checks)) {
    let error = null;
    try {
      await run(chatModel, embedModel);
    } catch (e) {
      error = e.stack ?? String(e);
    }
    console.log(JSON.stringify({ check, error }));
  }
}

async function untilError(model) {
  try {
    for await (const chunk of await client.chat.completions.create({ model, messages: say("LONG"), stream: true })) {
      console.log("read", chunk.choices[0]?.delta.content);
    }
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    console.log("APIError", error.code, error.message);
    return;
  }
  throw new Error("the stream ended as if it were complete");
}

const [what, ...args] = process.argv.slice(2);
({ all: runAll, until_error: untilError })[what](...args).catch((error) => {
  console.error(error);
  process.exit(1);
});
