"""Checks the gateway at BASE_URL with Anthropic's official Python SDK.

    python_messages.py all MODEL ABILITIES     one line of JSON per check: {"check", "error"}; abilities are thinking, images and blind
    python_messages.py errors CASES            the same for each of the requests, given as JSON, that must fail
    python_messages.py leave MODEL             leaves a stream after its first words
"""

import json
import os
import sys
import traceback

import anthropic

BASE = os.environ["BASE_URL"]
client = anthropic.Anthropic(base_url=BASE, api_key="unused", max_retries=0, timeout=60)
HELLO = "Hello from the tiny test model."
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def tool(name, *parameters):
    properties = {p: {"type": "string"} for p in parameters}
    return {"name": name, "description": name, "input_schema": {"type": "object", "properties": properties, "required": list(parameters)}}


FILES = [tool("Read", "file_path"), tool("Write", "file_path", "content")]


def say(content):
    return [{"role": "user", "content": content}]


def same(got, want):
    assert got == want, f"got {got!r}, want {want!r}"


def text(message):
    return "".join(b.text for b in message.content if b.type == "text")


def counted(message):
    assert message.usage.input_tokens > 0 and message.usage.output_tokens > 0, message.usage


def whole(**request):
    return client.messages.create(**{"max_tokens": 200} | request)


def streamed(**request):
    with client.messages.stream(**{"max_tokens": 200} | request) as events:
        return events.get_final_message()


def plain(model, _):
    answer = whole(model=model, messages=say("hi"))
    same(text(answer), HELLO)
    same((answer.type, answer.role, answer.stop_reason), ("message", "assistant", "end_turn"))
    counted(answer)
    assert answer._request_id, "no request-id"


def blocks(model, _):
    cached = {"cache_control": {"type": "ephemeral"}}
    system = [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."} | cached]
    same(text(whole(model=model, system=system, messages=say([{"type": "text", "text": "hi"} | cached]))), HELLO)


def stream(model, _):
    events = list(client.messages.create(model=model, max_tokens=200, messages=say("hi"), stream=True))
    same((events[0].type, events[-2].type, events[-1].type), ("message_start", "message_delta", "message_stop"))
    same("".join(e.delta.text for e in events if e.type == "content_block_delta"), HELLO)
    assert sum(e.type == "content_block_delta" for e in events) >= 5, events


def stream_helper(model, _):
    answer = streamed(model=model, messages=say("hi"))
    same((text(answer), answer.stop_reason), (HELLO, "end_turn"))
    counted(answer)


def beta(model, _):  # at /v1/messages?beta=true
    answer = client.beta.messages.create(model=model, max_tokens=200, messages=say("hi"), betas=["context-management-2025-06-27"])
    same(text(answer), HELLO)


def length(model, _):
    for ask in whole, streamed:
        answer = ask(model=model, max_tokens=3, messages=say("LONG"))
        same((text(answer).strip(), answer.stop_reason), ("one two three", "max_tokens"))


def one_tool(model, _):
    answer = whole(model=model, messages=say("Weather?"), tools=[tool("get_weather", "city")], tool_choice={"type": "auto"})
    same([(b.type, b.name, b.input) for b in answer.content], [("tool_use", "get_weather", {"city": "Paris"})])


def tool_loop(model, _, ask=whole):
    messages, calls = say("FETCH the notes"), []
    results = iter(["STORE these notes", [{"type": "text", "text": "written"}]])
    while (answer := ask(model=model, messages=messages, tools=FILES)).stop_reason == "tool_use":
        messages.append({"role": "assistant", "content": answer.content})
        for call in [b for b in answer.content if b.type == "tool_use"]:
            calls.append((call.name, call.input))
            messages += say([{"type": "tool_result", "tool_use_id": call.id, "content": next(results)}])
    same(calls, [("Read", {"file_path": "notes.txt"}), ("Write", {"file_path": "KEPT.txt", "content": "kept"})])
    same((text(answer), answer.stop_reason), ("The notes are kept safely.", "end_turn"))


def tool_loop_streamed(model, abilities):
    tool_loop(model, abilities, streamed)


def thinking(model, abilities):
    for ask in whole, streamed:
        question = say("THINK")
        wish = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 1100}
        answer = ask(model=model, messages=question, **wish)
        assert HELLO in text(answer), answer
        if "thinking" not in abilities:
            continue
        same([b.type for b in answer.content], ["thinking", "text"])
        assert "wants a greeting" in answer.content[0].thinking and answer.content[0].signature, answer
        again = question + [{"role": "assistant", "content": answer.content}] + say("again")
        assert HELLO in text(ask(model=model, messages=again, **wish))


def image(model, abilities):
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    question = say([{"type": "image", "source": source}, {"type": "text", "text": "What is this?"}])
    if "images" in abilities:
        same(text(whole(model=model, messages=question)), f"An image/png of {len(PIXEL)} characters.")
        return
    if "blind" in abilities:
        same(text(whole(model=model, messages=question)), HELLO)
        return
    try:
        whole(model=model, messages=question)
    except anthropic.BadRequestError as error:
        same(error.type, "invalid_request_error")
    else:
        raise AssertionError("no BadRequestError")


def count_tokens(model, _):
    count = lambda content: client.messages.count_tokens(model=model, messages=say(content)).input_tokens
    assert count("hi") > 0


def models(model, _):
    page = client.models.list(limit=2)
    same(len(page.data), 2)
    assert page.has_more, page
    every = list(client.models.list(limit=2))  # turns the pages
    assert len(every) > 2 and len({m.id for m in every}) == len(every), every
    assert model in [m.id for m in every], every
    one = client.models.retrieve(model)
    same((one.type, one.id, bool(one.display_name)), ("model", model, True))


def left_early(model, _):
    leave(model, 500)
    plain(model, None)


def leave(model, max_tokens=4000):
    words = ""
    with client.messages.create(model=model, max_tokens=max_tokens, messages=say("LONG"), stream=True) as events:
        for event in events:
            if event.type == "content_block_delta":
                words += event.delta.text
            if "two" in words:
                break


CHECKS = [plain, blocks, stream, stream_helper, beta, length, one_tool, tool_loop, tool_loop_streamed, thinking, image, count_tokens, models,
          left_early]


def report(name, check):
    error = None
    try:
        check()
    except Exception:
        error = traceback.format_exc()
    print(json.dumps({"check": name, "error": error}), flush=True)


def run_all(model, abilities):
    for check in CHECKS:
        report(check.__name__, lambda: check(model, abilities))


def errors(cases):
    for case in json.loads(cases):
        report(case["name"], lambda: fails(case))


def fails(case):
    other = anthropic.Anthropic(base_url=BASE, api_key=case["key"], max_retries=0, timeout=60)
    messages = [{"role": case["role"], "content": case["prompt"]}]
    try:
        for _ in other.messages.create(model=case["model"], max_tokens=10, messages=messages, stream=True):
            pass
    except anthropic.APIStatusError as error:
        same((type(error).__name__, error.type), (case["class"] or "APIStatusError", case["type"]))
        same(error.status_code, case["status"] or 200)  # of the stream that broke
        assert error.message and error.request_id, error
    else:
        raise AssertionError("no error")


if __name__ == "__main__":
    {"all": run_all, "errors": errors, "leave": leave}[sys.argv[1]](*sys.argv[2:])
