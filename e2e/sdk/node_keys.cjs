// Checks keys and limits with the official Node SDK, at the site BASE_URL that keys_test.go configures.
//
//   node_keys.cjs      one line of JSON per check: {"check", "error"}
const assert = require("node:assert/strict");
const OpenAI = require("openai");

const base = process.env.BASE_URL;
const messages = [{ role: "user", content: "hi" }];

// A client that counts the requests it sends.
class Counted {
  sent = 0;
  constructor(apiKey, options = {}, Client = OpenAI) {
    const counting = (...args) => {
      this.sent++;
      return fetch(...args);
    };
    this.client = new Client({ baseURL: base, apiKey, timeout: 60_000, fetch: counting, ...options });
  }
  chat(model = "local", options = {}) {
    return this.client.chat.completions.create({ model, messages, ...options });
  }
  async ids() {
    const ids = [];
    for await (const m of this.client.models.list()) ids.push(m.id);
    return ids.sort();
  }
}

async function refused(kind, code, asked) {
  let seen;
  await assert.rejects(asked, (error) => {
    seen = error;
    return error instanceof kind && error.code === code;
  });
  return seen;
}
const answered = (answer) => assert.ok(answer.choices[0].message.content);

const checks = {
  async wrong_key() {
    const c = new Counted("sk-nobody");
    await refused(OpenAI.AuthenticationError, "invalid_api_key", c.chat());
    await refused(OpenAI.AuthenticationError, "invalid_api_key", c.chat("local", { stream: true }));
    await refused(OpenAI.AuthenticationError, "invalid_api_key", c.ids());
    assert.equal(c.sent, 3);
  },
  async model_not_allowed() {
    const c = new Counted("sk-few");
    await refused(OpenAI.PermissionDeniedError, "model_not_allowed", c.chat("other"));
    await refused(OpenAI.PermissionDeniedError, "model_not_allowed", c.chat("other", { stream: true }));
    assert.equal(c.sent, 2);
    answered(await c.chat("local"));
  },
  async models_are_filtered() {
    assert.deepEqual(await new Counted("sk-few").ids(), ["local"]);
    assert.deepEqual(await new Counted("sk-all").ids(), ["local", "other", "priced"]);
    await refused(OpenAI.NotFoundError, "model_not_found", new Counted("sk-few").client.models.retrieve("other"));
  },
  async late_retry_is_not_made() {
    const c = new Counted("sk-once");
    answered(await c.chat());
    const error = await refused(OpenAI.RateLimitError, "rate_limit_exceeded", c.chat());
    assert.equal(error.headers.get("x-should-retry"), "false");
    assert.ok(Number(error.headers.get("retry-after")) > 60);
    assert.equal(c.sent, 2);
  },
  async soon_retry_is_made() {
    const c = new Counted("sk-brisk");
    answered(await c.chat());
    const began = performance.now();
    answered(await c.chat()); // refused with Retry-After: 2, then not
    assert.ok(performance.now() - began > 1000, "it was not told to wait");
    assert.equal(c.sent, 3);
  },
  async budget() {
    const c = new Counted("sk-poor");
    const error = await refused(OpenAI.RateLimitError, "insufficient_quota", c.chat("priced"));
    assert.equal(error.headers.get("x-should-retry"), "false");
    assert.equal(c.sent, 1);
    answered(await c.chat("local")); // has no price
  },
  async what_is_left() {
    const c = new Counted("sk-metered");
    const { response } = await c.chat().withResponse();
    const left = (name) => response.headers.get("x-ratelimit-" + name);
    assert.deepEqual([left("limit-requests"), left("remaining-requests"), left("limit-tokens")], ["100", "99", "10000"]);
    assert.ok(Number(left("remaining-tokens")) > 0 && Number(left("remaining-tokens")) < 10000);
    assert.ok(left("reset-requests") && left("reset-tokens"));
    const answer = await fetch(base.replace(/v1$/, "llm/usage"), { headers: { Authorization: "Bearer sk-metered" } });
    const usage = await answer.json();
    assert.equal(usage.key, "metered");
    assert.deepEqual(usage.limits.map((l) => [l.unit, l.rule, l.limit]), [["requests", "100/h", 100], ["tokens", "10000/h", 10000]]);
    assert.equal(usage.limits[0].left, 99);
  },
  async other_headers() {
    for (const secret of ["sk-all", "sk-nobody"]) {
      const anthropic = new Counted("unused", { defaultHeaders: { Authorization: null, "x-api-key": secret } });
      const deployments = base.replace(/v1$/, "azure/deployments/v1");
      const azure = new Counted(secret, { baseURL: deployments, apiVersion: "2024-10-21" }, OpenAI.AzureOpenAI);
      for (const c of [anthropic, azure]) {
        if (secret === "sk-all") {
          answered(await c.chat());
          assert.ok((await c.ids()).length > 0);
        } else {
          await refused(OpenAI.AuthenticationError, "invalid_api_key", c.chat());
        }
      }
    }
  },
};

(async () => {
  for (const [check, run] of Object.entries(checks)) {
    let error = null;
    try {
      await run();
    } catch (e) {
      error = e.stack ?? String(e);
    }
    console.log(JSON.stringify({ check, error }));
  }
})();
