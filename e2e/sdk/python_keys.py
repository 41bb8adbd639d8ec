"""Checks keys and limits with the official Python SDK, at the site BASE_URL that keys_test.go configures.

    python_keys.py      one line of JSON per check: {"check", "error"}
"""

import json
import os
import time
import traceback
import urllib.request

import openai

BASE = os.environ["BASE_URL"]
SAY = [{"role": "user", "content": "hi"}]


class Counted:
    """A client that counts the requests it sends."""

    def __init__(self, secret, make=openai.OpenAI, **options):
        self.sent = 0
        http_client = openai.DefaultHttpxClient(event_hooks={"request": [self.count]})
        self.client = make(**({"base_url": BASE, "api_key": secret, "timeout": 60, "http_client": http_client} | options))

    def count(self, _):
        self.sent += 1

    def chat(self, model="local", **options):
        return self.client.chat.completions.create(model=model, messages=SAY, **options)

    def raw(self, model="local"):
        return self.client.chat.completions.with_raw_response.create(model=model, messages=SAY)


def same(got, want):
    assert got == want, f"got {got!r}, want {want!r}"


def refused(kind, code, ask):
    try:
        ask()
    except kind as error:
        same(type(error), kind)
        same(error.code, code)
        return error
    raise AssertionError(f"no {kind.__name__}")


def answered(answer):
    assert answer.choices[0].message.content, answer


def wrong_key():
    c = Counted("sk-nobody")
    for ask in (c.chat, lambda: c.chat(stream=True), c.client.models.list):
        refused(openai.AuthenticationError, "invalid_api_key", ask)
    same(c.sent, 3)


def model_not_allowed():
    c = Counted("sk-few")
    refused(openai.PermissionDeniedError, "model_not_allowed", lambda: c.chat("other"))
    refused(openai.PermissionDeniedError, "model_not_allowed", lambda: c.chat("other", stream=True))
    same(c.sent, 2)
    answered(c.chat("local"))


def models_are_filtered():
    same([m.id for m in Counted("sk-few").client.models.list()], ["local"])
    same(sorted(m.id for m in Counted("sk-all").client.models.list()), ["local", "other", "priced"])
    refused(openai.NotFoundError, "model_not_found", lambda: Counted("sk-few").client.models.retrieve("other"))


def late_retry_is_not_made():
    c = Counted("sk-once")
    answered(c.chat())
    error = refused(openai.RateLimitError, "rate_limit_exceeded", c.chat)
    same(error.response.headers["x-should-retry"], "false")
    assert int(error.response.headers["retry-after"]) > 60, error.response.headers
    same(c.sent, 2)


def soon_retry_is_made():
    c = Counted("sk-brisk")
    answered(c.chat())
    began = time.monotonic()
    answered(c.chat())  # refused with Retry-After: 2, then not
    assert time.monotonic() - began > 1, "it was not told to wait"
    same(c.sent, 3)


def budget():
    c = Counted("sk-poor")
    error = refused(openai.RateLimitError, "insufficient_quota", lambda: c.chat("priced"))
    same(error.response.headers["x-should-retry"], "false")
    same(c.sent, 1)
    answered(c.chat("local"))  # has no price


def what_is_left():
    c = Counted("sk-metered")
    h = c.raw().headers
    same((h["x-ratelimit-limit-requests"], h["x-ratelimit-remaining-requests"], h["x-ratelimit-limit-tokens"]), ("100", "99", "10000"))
    assert 0 < int(h["x-ratelimit-remaining-tokens"]) < 10000, h
    assert h["x-ratelimit-reset-requests"] and h["x-ratelimit-reset-tokens"], h
    same(c.raw().headers["x-ratelimit-remaining-requests"], "98")
    asked = urllib.request.Request(BASE.removesuffix("/v1") + "/llm/usage", headers={"Authorization": "Bearer sk-metered"})
    with urllib.request.urlopen(asked) as answer:
        usage = json.load(answer)
    same(usage["key"], "metered")
    same([(limit["unit"], limit["rule"], limit["limit"]) for limit in usage["limits"]], [("requests", "100/h", 100), ("tokens", "10000/h", 10000)])
    same(usage["limits"][0]["left"], 98)


def other_headers():
    deployments = BASE.removesuffix("/v1") + "/azure/deployments/v1"
    for secret in ("sk-all", "sk-nobody"):
        azure = Counted(secret, make=openai.AzureOpenAI, base_url=deployments, api_version="2024-10-21")
        for c, headers in ((Counted("unused"), {"Authorization": openai.Omit(), "x-api-key": secret}), (azure, {})):
            if secret == "sk-all":
                answered(c.chat(extra_headers=headers))
                assert list(c.client.models.list(extra_headers=headers)), "no models"
            else:
                refused(openai.AuthenticationError, "invalid_api_key", lambda: c.chat(extra_headers=headers))


CHECKS = [wrong_key, model_not_allowed, models_are_filtered, late_retry_is_not_made, soon_retry_is_made, budget, what_is_left, other_headers]

if __name__ == "__main__":
    for check in CHECKS:
        error = None
        try:
            check()
        except Exception:
            error = traceback.format_exc()
        print(json.dumps({"check": check.__name__, "error": error}), flush=True)
