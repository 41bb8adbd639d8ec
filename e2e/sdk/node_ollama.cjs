// Checks the gateway at BASE_URL with Ollama's official Node SDK.
//
//   node_ollama.cjs all MODEL ABILITIES EMBEDDER     one line of JSON per check: {"check", "error"}; abilities are thinking and images
//   node_ollama.cjs leave MODEL                      leaves a stream after its first words
const assert = require("node:assert/strict");
const { Ollama } = require("ollama");

const client = new Ollama({ host: process.env.BASE_URL });
const HELLO = "Hello from the tiny test model.";
const PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    description: "Says what the weather is.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

const say = (content) => [{ role: "user", content }];

async function all(stream) {
  const parts = [];
  for await (const part of await stream) parts.push(part);
  return parts;
}

function finished(answer, reason = "stop") {
  assert.deepEqual([answer.done, answer.done_reason], [true, reason]);
  assert.ok(answer.prompt_eval_count > 0 && answer.eval_count > 0 && answer.total_duration > 0, JSON.stringify(answer));
}

const checks = {
  async chat(model) {
    const answer = await client.chat({ model, messages: say("hi") });
    assert.deepEqual([answer.message.role, answer.message.content], ["assistant", HELLO]);
    finished(answer);
  },

  async chatStream(model) {
    const parts = await all(client.chat({ model, messages: say("hi"), stream: true }));
    assert.equal(parts.map((p) => p.message.content).join(""), HELLO);
    assert.ok(parts.length > 3 && parts.slice(0, -1).every((p) => !p.done), JSON.stringify(parts));
    finished(parts.at(-1));
  },

  async chatCut(model) {
    const answer = await client.chat({ model, messages: say("LONG"), options: { num_predict: 3 } });
    assert.equal(answer.message.content.trim(), "one two three");
    finished(answer, "length");
  },

  async chatTools(model) {
    const messages = say("What is the weather in Paris?");
    const answer = await client.chat({ model, messages, tools: [WEATHER] });
    const { name, arguments: input } = answer.message.tool_calls[0].function;
    assert.deepEqual([name, input], ["get_weather", { city: "Paris" }]);
    const turns = [...messages, answer.message, { role: "tool", tool_name: "get_weather", content: "fine" }];
    assert.equal((await client.chat({ model, messages: turns, tools: [WEATHER] })).message.content, "It is 21 degrees!");
  },

  async chatThinking(model, abilities) {
    if (!abilities.includes("thinking")) return;
    const answer = await client.chat({ model, messages: say("THINK"), think: true });
    assert.match(answer.message.thinking, /wants a greeting/);
    assert.equal(answer.message.content.trim(), HELLO);
  },

  async chatImage(model, abilities) {
    if (!abilities.includes("images")) return;
    const answer = await client.chat({ model, messages: [{ role: "user", content: "What is this?", images: [PIXEL] }] });
    assert.equal(answer.message.content, "An image/png of 96 characters.");
  },

  async generate(model) {
    const answer = await client.generate({ model, prompt: "hi" });
    assert.equal(answer.response, HELLO);
    finished(answer);
    const parts = await all(client.generate({ model, prompt: "hi", stream: true }));
    assert.equal(parts.map((p) => p.response).join(""), HELLO);
    finished(parts.at(-1));
  },

  async embed(_model, _abilities, embedder) {
    const answer = await client.embed({ model: embedder, input: ["one", "another"] });
    assert.deepEqual(answer.embeddings.map((e) => e.length), [64, 64]);
    assert.equal((await client.embeddings({ model: embedder, prompt: "one" })).embedding.length, 64);
  },

  async listAndShow(model) {
    const { models } = await client.list();
    assert.ok(models.some((m) => m.model === model && m.name === model && m.details), JSON.stringify(models));
    const shown = await client.show({ model });
    assert.ok(shown.model_info[shown.model_info["general.architecture"] + ".context_length"] > 0, JSON.stringify(shown));
    await client.ps();
  },

  async unknownModel() {
    const wanted = (error) => error.name === "ResponseError" && error.status_code === 404 && error.message !== "";
    await assert.rejects(client.chat({ model: "nobody-has-this", messages: say("hi") }), wanted);
    await assert.rejects(all(client.chat({ model: "nobody-has-this", messages: say("hi"), stream: true })), wanted);
    await assert.rejects(client.show({ model: "nobody-has-this" }), wanted);
  },
};

async function leave(model) {
  const stream = await client.chat({ model, messages: say("LONG"), stream: true });
  try {
    for await (const part of stream) if (part.message.content.includes("two")) stream.abort();
  } catch (error) {
    assert.equal(error.name, "AbortError");
  }
}

async function runAll(...args) {
  for (const [check, run] of Object.entries(checks)) {
    let error = null;
    try {
      await run(...args);
    } catch (caught) {
      error = caught.stack;
    }
    console.log(JSON.stringify({ check, error }));
  }
}

const [what, ...args] = process.argv.slice(2);
({ all: runAll, leave })[what](...args).catch((error) => {
  console.error(error);
  process.exit(1);
});
