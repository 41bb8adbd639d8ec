"""Checks the simple chat of the gateway at BASE_URL with httpx, as the quick start of a program without an SDK does.

    python_simple.py all        one line of JSON per check: {"check", "error"}
    python_simple.py breaks     reads a stream that breaks, and prints what was raised
"""

import json
import os
import sys
import traceback

import httpx

base = os.environ["BASE_URL"]
HELLO = "Hello from the tiny test model."


def same(got, want):
    assert got == want, f"got {got!r}, want {want!r}"


def read(message):
    text = ""
    with httpx.stream("POST", f"{base}/chat/stream", json={"message": message}, timeout=60) as r:
        for line in r.iter_lines():
            if line.startswith("data: "):
                token = line[6:]
                if token == "[DONE]":
                    return text
                text += token
    raise AssertionError(f"no end after {text!r}")


def whole():
    r = httpx.post(f"{base}/chat", json={"message": "Hello"}, timeout=60)
    same((r.status_code, r.json()), (200, {"response": HELLO}))


def stream():
    same(read("Hello"), HELLO)


def limit():
    r = httpx.post(f"{base}/chat", json={"message": "LONG", "max_tokens": 3}, timeout=60)
    same(r.json()["response"].strip(), "one two three")


def invalid():
    for body, status in ({"message": ""}, 422), ({"message": 1}, 422), ({}, 422), ([], 400):
        r = httpx.post(f"{base}/chat/stream", json=body)
        same(r.status_code, status)
        assert isinstance(r.json()["detail"], str), r.text
    same(httpx.get(f"{base}/chat").status_code, 405)


def run_all():
    for check in whole, stream, limit, invalid:
        error = None
        try:
            check()
        except Exception:
            error = traceback.format_exc()
        print(json.dumps({"check": check.__name__, "error": error}), flush=True)


def breaks():
    try:
        read("BREAK")
    except httpx.HTTPError as error:
        print(type(error).__name__)


if __name__ == "__main__":
    {"all": run_all, "breaks": breaks}[sys.argv[1]]()
