"""Checks the gateway at BASE_URL with the official Python SDK.

    python_checks.py all CHAT_MODEL EMBED_MODEL      one line of JSON per check: {"check", "error"}
    python_checks.py until_error MODEL               prints what it reads of a stream; exits with 0 only if the SDK raises APIError
"""

import json
import os
import sys
import traceback

import openai

client = openai.OpenAI(base_url=os.environ["BASE_URL"], api_key="unused", max_retries=0, timeout=60)
HELLO = "Hello from the tiny test model."
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def say(text):
    return [{"role": "user", "content": text}]


def same(got, want):
    assert got == want, f"got {got!r}, want {want!r}"


def chat(model, _):
    answer = client.chat.completions.create(model=model, messages=say("hi"))
    same(answer.choices[0].message.content, HELLO)
    same(answer.choices[0].finish_reason, "stop")
    assert answer.usage.completion_tokens > 0, answer.usage


def chat_raw_headers(model, _):
    answer = client.chat.completions.with_raw_response.create(model=model, messages=say("hi"))
    assert answer.headers["x-llm-target"], answer.headers
    same(answer.parse().choices[0].message.content, HELLO)


def stream(model, _):
    chunks = list(client.chat.completions.create(model=model, messages=say("hi"), stream=True))
    same("".join(c.choices[0].delta.content or "" for c in chunks), HELLO)
    same([c for c in chunks if c.usage], [])
    same(chunks[-1].choices[0].finish_reason, "stop")


def stream_with_usage(model, _):
    chunks = list(client.chat.completions.create(model=model, messages=say("hi"), stream=True, stream_options={"include_usage": True}))
    same("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), HELLO)
    same(len([c for c in chunks if c.usage]), 1)
    assert chunks[-1].usage.completion_tokens > 0, chunks[-1]


def stream_helper(model, _):
    with client.chat.completions.stream(model=model, messages=say("hi")) as events:
        same(events.get_final_completion().choices[0].message.content, HELLO)


def stream_left_early(model, _):
    with client.chat.completions.create(model=model, messages=say("LONG"), stream=True, max_tokens=500) as events:
        for chunk in events:
            if chunk.choices[0].delta.content:
                break
    chat(model, None)


def tools(model, _):
    answer = client.chat.completions.create(model=model, messages=say("Weather?"), tools=[WEATHER])
    call = answer.choices[0].message.tool_calls[0]
    same(call.function.name, "get_weather")
    same(json.loads(call.function.arguments), {"city": "Paris"})
    messages = say("Weather?") + [answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "21"}]
    answer = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    same(answer.choices[0].message.content, "It is 21 degrees!")


def tools_stream(model, _):
    with client.chat.completions.stream(model=model, messages=say("Weather?"), tools=[WEATHER]) as events:
        calls = events.get_final_completion().choices[0].message.tool_calls
    same(len(calls), 1)
    same(calls[0].function.name, "get_weather")
    same(json.loads(calls[0].function.arguments), {"city": "Paris"})


def completions(model, _):
    answer = client.completions.create(model=model, prompt="LONG", max_tokens=3)
    same(answer.choices[0].text, " one two three")


def embeddings(_, model):  # the SDK asks for base64 by default
    answer = client.embeddings.create(model=model, input=["one", "another"])
    same([len(d.embedding) for d in answer.data], [64, 64])
    floats = client.embeddings.create(model=model, input="one", encoding_format="float")
    for a, b in zip(answer.data[0].embedding, floats.data[0].embedding):
        assert abs(a - b) < 1e-3, (a, b)


def models(model, _):
    assert model in [m.id for m in client.models.list()], client.models.list()
    same(client.models.retrieve(model).id, model)
    same(client.models.retrieve("org/chat:v1").id, "org/chat:v1")


def not_found(_, __):
    try:
        client.chat.completions.create(model="nobody-has-this", messages=say("hi"))
    except openai.NotFoundError as error:
        same(error.code, "model_not_found")
    else:
        raise AssertionError("no NotFoundError")


def not_found_stream(_, __):
    try:
        client.chat.completions.create(model="nobody-has-this", messages=say("hi"), stream=True)
    except openai.NotFoundError as error:
        same(error.code, "model_not_found")
    else:
        raise AssertionError("no NotFoundError")


def context_too_long(_, __):  # Ollama 0.11.4 truncates the prompt instead
    try:
        client.chat.completions.create(model="llama-chat", messages=say("x" * 6000))
    except openai.BadRequestError as error:
        same(error.type, "exceed_context_size_error")
    else:
        raise AssertionError("no BadRequestError")


def responses(model, _):
    same(client.responses.create(model=model, input="hi").output_text, HELLO)
    events = list(client.responses.create(model=model, input="hi", stream=True))
    same("".join(e.delta for e in events if e.type == "response.output_text.delta"), HELLO)
    same(events[-1].type, "response.completed")


CHECKS = [chat, chat_raw_headers, stream, stream_with_usage, stream_helper, stream_left_early, tools, tools_stream, completions,
          embeddings, models, not_found, not_found_stream, context_too_long, responses]


def run_all(chat_model, embed_model):
    for check in CHECKS:
        error = None
        try:
            check(chat_model, embed_model)
        except Exception:
            error = traceback.format_exc()
        print(json.dumps({"check": check.__name__, "error": error}), flush=True)


def until_error(model):
    try:
        for chunk in client.chat.completions.create(model=model, messages=say("LONG"), stream=True):
            print("read", chunk.choices[0].delta.content, flush=True)
    except openai.APIError as error:
        print("APIError", error.code, error.message, flush=True)
        return
    sys.exit("the stream ended as if it were complete")


if __name__ == "__main__":
    {"all": run_all, "until_error": until_error}[sys.argv[1]](*sys.argv[2:])
