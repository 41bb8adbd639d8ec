// Checks the gateway at BASE_URL with the helpers of OpenAI's Node SDK for the Responses API.
//
//   node_responses.cjs all MODEL ABILITIES     one line of JSON per check: {"check", "error"}; abilities are as in python_responses.py
const assert = require("node:assert/strict");
const OpenAI = require("openai");
const { zodTextFormat } = require("openai/helpers/zod");
const { z } = require("zod");

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "unused", maxRetries: 0, timeout: 60_000 });
const HELLO = "Hello from the tiny test model.";
const DEGREES = "It is 21 degrees!";
const WEATHER = {
  type: "function",
  name: "get_weather",
  description: "The weather in a city",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false },
  strict: true,
};

const whole = (request) => client.responses.create(request);
// The stream helper builds the response from all events, and fails on one that is out of place.
const streamed = (request) => client.responses.stream(request).finalResponse();
const both = [whole, streamed];

const checks = {
  async text(model) {
    for (const ask of both) {
      const answer = await ask({ model, input: "hi" });
      assert.equal(answer.output_text, HELLO);
      assert.equal(answer.status, "completed");
      assert.ok(answer.usage.input_tokens > 0 && answer.usage.output_tokens > 0);
    }
  },
  async events(model) {
    const events = [];
    for await (const event of await client.responses.create({ model, input: "hi", stream: true })) events.push(event);
    assert.deepEqual(events.map((e) => e.sequence_number), events.map((_, i) => i));
    assert.deepEqual([events[0].type, events[1].type, events.at(-1).type], ["response.created", "response.in_progress", "response.completed"]);
    assert.equal(events.filter((e) => e.type === "response.output_text.delta").map((e) => e.delta).join(""), HELLO);
  },
  async tools(model) {
    for (const ask of both) {
      const input = [{ role: "user", content: "Weather?" }];
      const answer = await ask({ model, input, tools: [WEATHER] });
      const calls = answer.output.filter((item) => item.type === "function_call");
      assert.deepEqual(calls.map((c) => c.name), ["get_weather"]);
      assert.deepEqual(JSON.parse(calls[0].arguments), { city: "Paris" });
      // The helper adds members to the items that are no part of the API.
      const said = answer.output.map(({ parsed_arguments, ...item }) => item);
      const next = [...input, ...said, { type: "function_call_output", call_id: calls[0].call_id, output: "21" }];
      assert.equal((await ask({ model, input: next, tools: [WEATHER] })).output_text, DEGREES);
    }
  },
  async structured(model) {
    const request = { model, input: "hi", max_output_tokens: 200, temperature: 0, text: { format: zodTextFormat(z.object({ ok: z.boolean() }), "verdict") } };
    assert.equal(typeof (await client.responses.parse(request)).output_parsed.ok, "boolean");
    assert.equal(typeof (await streamed(request)).output_parsed.ok, "boolean");
  },
  async reasoning(model, abilities) {
    if (!abilities.includes("thinking")) return;
    for (const ask of both) {
      const answer = await ask({ model, input: "THINK", reasoning: { effort: "high" }, include: ["reasoning.encrypted_content"] });
      const item = answer.output.find((item) => item.type === "reasoning");
      assert.match([...(item?.summary ?? []), ...(item?.content ?? [])].map((p) => p.text).join(""), /user wants a greeting/);
      assert.equal(answer.output_text, HELLO);
    }
  },
  async cut_short(model, abilities) {
    if (!abilities.includes("long")) return;
    for (const ask of both) {
      const answer = await ask({ model, input: "LONG", max_output_tokens: 16 });
      assert.deepEqual([answer.status, answer.incomplete_details.reason], ["incomplete", "max_output_tokens"]);
    }
  },
  async failing(model, abilities) {
    await assert.rejects(whole({ model: "nobody-has-this", input: "hi" }), OpenAI.NotFoundError);
    if (!abilities.includes("failing")) return;
    await assert.rejects(whole({ model, input: "STATUS 429" }), OpenAI.RateLimitError);
    await assert.rejects(whole({ model, input: "STATUS 500" }), OpenAI.InternalServerError);
    await assert.rejects(streamed({ model, input: "STATUS 500" }), OpenAI.InternalServerError);
  },
  async broken_off(model, abilities) {
    if (!abilities.includes("failing")) return;
    const kinds = [];
    try {
      for await (const event of await client.responses.create({ model, input: "BREAK", stream: true })) kinds.push(event.type);
    } catch (error) {
      if (error instanceof OpenAI.APIError) return;
      throw error;
    }
    assert.ok(kinds.at(-1) === "response.failed" && !kinds.includes("response.completed"), kinds.join());
  },
  async left_early(model) {
    const stream = await client.responses.create({ model, input: "LONG", max_output_tokens: 500, stream: true });
    for await (const event of stream) if (event.type === "response.output_text.delta") break; // leaving the loop aborts the request
    await checks.text(model);
  },
};

async function runAll(model, abilities) {
  for (const [check, run] of Object.entries(checks)) {
    let error = null;
    try {
      await run(model, abilities.split(","));
    } catch (e) {
      error = e.stack ?? String(e);
    }
    console.log(JSON.stringify({ check, error }));
  }
}

const [what, ...args] = process.argv.slice(2);
({ all: runAll })[what](...args).catch((error) => {
  console.error(error);
  process.exit(1);
});
