// Checks the gateway at BASE_URL with Anthropic's official Node SDK.
//
//   node_messages.cjs all MODEL ABILITIES     one line of JSON per check: {"check", "error"}; abilities are thinking, images and blind
//   node_messages.cjs errors CASES            the same for each of the requests, given as JSON, that must fail
//   node_messages.cjs leave MODEL             leaves a stream after its first words
const assert = require("node:assert/strict");
const Anthropic = require("@anthropic-ai/sdk");

const options = { baseURL: process.env.BASE_URL, maxRetries: 0, timeout: 60_000 };
const client = new Anthropic({ ...options, apiKey: "unused" });
const HELLO = "Hello from the tiny test model.";
const PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

const tool = (name, ...parameters) => ({
  name,
  description: name,
  input_schema: { type: "object", properties: Object.fromEntries(parameters.map((p) => [p, { type: "string" }])), required: parameters },
});
const FILES = [tool("Read", "file_path"), tool("Write", "file_path", "content")];

const say = (content) => [{ role: "user", content }];
const text = (message) => message.content.map((b) => (b.type === "text" ? b.text : "")).join("");
const counted = (message) => assert.ok(message.usage.input_tokens > 0 && message.usage.output_tokens > 0, JSON.stringify(message.usage));
const whole = (request) => client.messages.create({ max_tokens: 200, ...request });
const streamed = (request) => client.messages.stream({ max_tokens: 200, ...request }).finalMessage();

async function all(events) {
  const list = [];
  for await (const event of events) list.push(event);
  return list;
}

async function leave(model, maxTokens = 4000) {
  let words = "";
  for await (const event of await client.messages.create({ model, max_tokens: maxTokens, messages: say("LONG"), stream: true })) {
    if (event.type === "content_block_delta") words += event.delta.text;
    if (words.includes("two")) break; // leaving the loop aborts the request
  }
}

async function toolLoop(model, ask) {
  const messages = say("FETCH the notes");
  const results = ["STORE these notes", [{ type: "text", text: "written" }]];
  const calls = [];
  let answer;
  while ((answer = await ask({ model, messages, tools: FILES })).stop_reason === "tool_use") {
    messages.push({ role: "assistant", content: answer.content });
    for (const call of answer.content.filter((b) => b.type === "tool_use")) {
      calls.push([call.name, call.input]);
      messages.push(...say([{ type: "tool_result", tool_use_id: call.id, content: results.shift() }]));
    }
  }
  assert.deepEqual(calls, [["Read", { file_path: "notes.txt" }], ["Write", { file_path: "KEPT.txt", content: "kept" }]]);
  assert.equal(text(answer), "The notes are kept safely.");
  assert.equal(answer.stop_reason, "end_turn");
}

const checks = {
  async plain(model) {
    const answer = await whole({ model, messages: say("hi") });
    assert.equal(text(answer), HELLO);
    assert.deepEqual([answer.type, answer.role, answer.stop_reason], ["message", "assistant", "end_turn"]);
    counted(answer);
    assert.ok(answer._request_id, "no request-id");
  },
  async blocks(model) {
    const cached = { cache_control: { type: "ephemeral" } };
    const system = [{ type: "text", text: "Be brief." }, { type: "text", text: "Be kind.", ...cached }];
    assert.equal(text(await whole({ model, system, messages: say([{ type: "text", text: "hi", ...cached }]) })), HELLO);
  },
  async stream(model) {
    const events = await all(await client.messages.create({ model, max_tokens: 200, messages: say("hi"), stream: true }));
    assert.deepEqual([events[0].type, events.at(-2).type, events.at(-1).type], ["message_start", "message_delta", "message_stop"]);
    const deltas = events.filter((e) => e.type === "content_block_delta");
    assert.equal(deltas.map((e) => e.delta.text).join(""), HELLO);
    assert.ok(deltas.length >= 5, `${deltas.length} deltas`);
  },
  async stream_helper(model) {
    const answer = await streamed({ model, messages: say("hi") });
    assert.deepEqual([text(answer), answer.stop_reason], [HELLO, "end_turn"]);
    counted(answer);
  },
  async beta(model) { // at /v1/messages?beta=true
    const answer = await client.beta.messages.create({ model, max_tokens: 200, messages: say("hi"), betas: ["context-management-2025-06-27"] });
    assert.equal(text(answer), HELLO);
  },
  async length(model) {
    for (const ask of [whole, streamed]) {
      const answer = await ask({ model, max_tokens: 3, messages: say("LONG") });
      assert.deepEqual([text(answer).trim(), answer.stop_reason], ["one two three", "max_tokens"]);
    }
  },
  async one_tool(model) {
    const answer = await whole({ model, messages: say("Weather?"), tools: [tool("get_weather", "city")], tool_choice: { type: "auto" } });
    assert.deepEqual(answer.content.map((b) => [b.type, b.name, b.input]), [["tool_use", "get_weather", { city: "Paris" }]]);
  },
  tool_loop: (model) => toolLoop(model, whole),
  tool_loop_streamed: (model) => toolLoop(model, streamed),
  async thinking(model, abilities) {
    for (const ask of [whole, streamed]) {
      const question = say("THINK");
      const wish = { model, max_tokens: 1100, thinking: { type: "enabled", budget_tokens: 1024 } };
      const answer = await ask({ ...wish, messages: question });
      assert.ok(text(answer).includes(HELLO), JSON.stringify(answer));
      if (!abilities.includes("thinking")) continue;
      assert.deepEqual(answer.content.map((b) => b.type), ["thinking", "text"]);
      const { thinking, signature } = answer.content[0];
      assert.ok(thinking.includes("wants a greeting") && signature, JSON.stringify(answer));
      const again = await ask({ ...wish, messages: [...question, { role: "assistant", content: answer.content }, ...say("again")] });
      assert.ok(text(again).includes(HELLO), JSON.stringify(again));
    }
  },
  async image(model, abilities) {
    const source = { type: "base64", media_type: "image/png", data: PIXEL };
    const asked = whole({ model, messages: say([{ type: "image", source }, { type: "text", text: "What is this?" }]) });
    if (abilities.includes("images")) assert.equal(text(await asked), `An image/png of ${PIXEL.length} characters.`);
    else if (abilities.includes("blind")) assert.equal(text(await asked), HELLO);
    else await assert.rejects(asked, (error) => error instanceof Anthropic.BadRequestError && error.type === "invalid_request_error");
  },
  async count_tokens(model) {
    assert.ok((await client.messages.countTokens({ model, messages: say("hi") })).input_tokens > 0);
  },
  async models(model) {
    const page = await client.models.list({ limit: 2 });
    assert.equal(page.data.length, 2);
    assert.ok(page.has_more);
    const ids = (await all(client.models.list({ limit: 2 }))).map((m) => m.id); // turns the pages
    assert.ok(ids.length > 2 && new Set(ids).size === ids.length && ids.includes(model), ids.join());
    const one = await client.models.retrieve(model);
    assert.deepEqual([one.type, one.id, Boolean(one.display_name)], ["model", model, true]);
  },
  async left_early(model) {
    await leave(model, 500);
    await checks.plain(model);
  },
};

async function report(check, run) {
  let error = null;
  try {
    await run();
  } catch (e) {
    error = e.stack ?? String(e);
  }
  console.log(JSON.stringify({ check, error }));
}

async function runAll(model, abilities) {
  for (const [check, run] of Object.entries(checks)) await report(check, () => run(model, abilities));
}

async function errors(cases) {
  for (const wanted of JSON.parse(cases)) await report(wanted.name, () => fails(wanted));
}

async function fails(wanted) {
  const other = new Anthropic({ ...options, apiKey: wanted.key });
  const messages = [{ role: wanted.role, content: wanted.prompt }];
  const asked = async () => all(await other.messages.create({ model: wanted.model, max_tokens: 10, messages, stream: true }));
  await assert.rejects(asked, (error) => {
    assert.ok(error instanceof Anthropic.APIError, error);
    assert.deepEqual([error.constructor.name, error.type], [wanted.class || "APIError", wanted.type]);
    assert.equal(error.status ?? 0, wanted.status);
    assert.ok(error.message && error.requestID, "no message or request-id");
    return true;
  });
}

const [what, ...args] = process.argv.slice(2);
({ all: runAll, errors, leave })[what](...args).catch((error) => {
  console.error(error);
  process.exit(1);
});
