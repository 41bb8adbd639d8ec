"""Checks the gateway at BASE_URL with the helpers of OpenAI's Python SDK for the Responses API, and with openai-agents.

    python_responses.py all MODEL ABILITIES     one line of JSON per check: {"check", "error"}; abilities are thinking, images, stored,
                                                failing and long
"""

import asyncio
import json
import os
import sys
import traceback

import agents
import openai
import pydantic

BASE = os.environ["BASE_URL"]
client = openai.OpenAI(base_url=BASE, api_key="unused", max_retries=0, timeout=60)
HELLO = "Hello from the tiny test model."
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False},
    "strict": True,
}
DEGREES = "It is 21 degrees!"
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def same(got, want):
    assert got == want, f"got {got!r}, want {want!r}"


def whole(**request):
    return client.responses.create(**request)


def streamed(**request):
    """Returns the final response of the stream helper, which builds it from all events and fails on one that is out of place."""
    with client.responses.stream(**request) as events:
        numbers = [e.sequence_number for e in events]
        same(numbers, list(range(len(numbers))))
        return events.get_final_response()


def text(model, _):
    for ask in whole, streamed:
        answer = ask(model=model, input="hi")
        same(answer.output_text, HELLO)
        same((answer.object, answer.status, answer.error), ("response", "completed", None))
        assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0, answer.usage
        same(answer.usage.total_tokens, answer.usage.input_tokens + answer.usage.output_tokens)


def instructions(model, abilities):
    answer = whole(model=model, instructions="Be brief.", input=[{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}])
    same(answer.output_text, HELLO)
    if "stored" not in abilities:  # the imitation does not repeat them
        same(answer.instructions, "Be brief.")


def events(model, _):
    kinds = [e.type for e in client.responses.create(model=model, input="hi", stream=True)]
    same(kinds[:2], ["response.created", "response.in_progress"])
    same(kinds[-1], "response.completed")
    # What opens is closed, in the order of the items.
    same(kinds.count("response.output_item.added"), kinds.count("response.output_item.done"))
    same(kinds.count("response.content_part.added"), kinds.count("response.content_part.done"))
    assert kinds.index("response.output_text.delta") < kinds.index("response.output_text.done") < kinds.index("response.content_part.done"), kinds


def tools(model, _):
    for ask in whole, streamed:
        talk = [{"role": "user", "content": "Weather?"}]
        answer = ask(model=model, input=talk, tools=[WEATHER])
        calls = [item for item in answer.output if item.type == "function_call"]
        same([c.name for c in calls], ["get_weather"])
        same(json.loads(calls[0].arguments), {"city": "Paris"})
        talk += answer.output
        talk.append({"type": "function_call_output", "call_id": calls[0].call_id, "output": "21"})
        same(ask(model=model, input=talk, tools=[WEATHER]).output_text, DEGREES)


class Verdict(pydantic.BaseModel):
    ok: bool


def structured(model, _):
    answer = client.responses.parse(model=model, input="hi", text_format=Verdict, max_output_tokens=200, temperature=0)
    assert isinstance(answer.output_parsed, Verdict), answer
    with client.responses.stream(model=model, input="hi", text_format=Verdict, max_output_tokens=200, temperature=0) as events:
        for _ in events:
            pass
        assert isinstance(events.get_final_response().output_parsed, Verdict), events


def thoughts(item):
    return "".join(p.text for p in [*(item.summary or []), *(item.content or [])])


def reasoning(model, abilities):
    if "thinking" not in abilities:
        return
    for ask in whole, streamed:
        talk = [{"role": "user", "content": "THINK"}]
        answer = ask(model=model, input=talk, reasoning={"effort": "high", "summary": "auto"}, include=["reasoning.encrypted_content"])
        items = [item for item in answer.output if item.type == "reasoning"]
        assert items and "user wants a greeting" in thoughts(items[0]), answer.output
        same(answer.output_text, HELLO)
        # The conversation goes on with what the model thought.
        talk += answer.output
        talk.append({"role": "user", "content": "hi"})
        same(ask(model=model, input=talk, reasoning={"effort": "none"}).output_text, HELLO)


def image(model, abilities):
    content = [{"type": "input_text", "text": "See"}, {"type": "input_image", "image_url": PIXEL, "detail": "auto"}]
    if "images" in abilities:
        same(whole(model=model, input=[{"role": "user", "content": content}]).output_text, f"An image/png of {len(PIXEL.split(',')[1])} characters.")


def cut_short(model, abilities):
    if "long" not in abilities:
        return
    *_, last = client.responses.create(model=model, input="LONG", max_output_tokens=16, stream=True)
    same(last.type, "response.incomplete")  # which the SDK's helper does not expect
    for answer in whole(model=model, input="LONG", max_output_tokens=16), last.response:
        same((answer.status, answer.incomplete_details.reason), ("incomplete", "max_output_tokens"))


def failing(model, abilities):
    for error, ask in [(openai.NotFoundError, lambda: whole(model="nobody-has-this", input="hi"))] + (
        [
            (openai.RateLimitError, lambda: whole(model=model, input="STATUS 429")),
            (openai.InternalServerError, lambda: whole(model=model, input="STATUS 500")),
            (openai.InternalServerError, lambda: client.responses.create(model=model, input="STATUS 500", stream=True)),
        ]
        if "failing" in abilities
        else []
    ):
        try:
            ask()
        except error as failure:
            assert failure.message, failure
        else:
            raise AssertionError(f"no {error}")


def broken_off(model, abilities):
    """A stream that fails in the middle ends with response.failed, or raises; it never looks complete."""
    if "failing" not in abilities:
        return
    try:
        kinds = [e.type for e in client.responses.create(model=model, input="BREAK", stream=True)]
    except openai.APIError:
        return
    assert kinds[-1] == "response.failed" and "response.completed" not in kinds, kinds


def not_stored(model, abilities):
    """Where nothing is stored, a request that needs it is refused, and the answer says so."""
    if "stored" in abilities:
        return
    same(whole(model=model, input="hi", store=True).store, False)
    try:
        whole(model=model, input="hi", previous_response_id="resp_1")
    except openai.BadRequestError as failure:
        same(failure.param, "previous_response_id")
    else:
        raise AssertionError("no BadRequestError")


agents.set_tracing_disabled(True)


def run(program):
    """Runs a program with agents. A client belongs to one event loop."""
    agents.set_default_openai_client(openai.AsyncOpenAI(base_url=BASE, api_key="unused", max_retries=0, timeout=60), use_for_tracing=False)
    return asyncio.run(program)


@agents.function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"21 in {city}"


def agent(model, **settings):
    return agents.Agent(name="Weather", instructions="Use the tool.", model=model, tools=[get_weather], **settings)


def agent_whole(model, _):
    result = run(agents.Runner.run(agent(model), "Weather?"))
    same(result.final_output, DEGREES)
    outputs = [item.output for item in result.new_items if isinstance(item, agents.ToolCallOutputItem)]
    same(outputs, ["21 in Paris"])


def agent_streamed(model, _):
    async def stream():
        result = agents.Runner.run_streamed(agent(model), "Weather?")
        kinds = [e.data.type async for e in result.stream_events() if e.type == "raw_response_event"]
        return result, kinds

    result, kinds = run(stream())
    same(result.final_output, DEGREES)
    same(kinds.count("response.completed"), 2)


def agent_again(model, _):
    """An agent that goes on with its own conversation, as programs with several turns do."""

    async def twice():
        first = await agents.Runner.run(agent(model), "Weather?")
        return await agents.Runner.run(agent(model), first.to_input_list() + [{"role": "user", "content": "And now?"}])

    same(run(twice()).final_output, DEGREES)


CHECKS = [text, instructions, events, tools, structured, reasoning, image, cut_short, failing, broken_off, not_stored, agent_whole, agent_streamed, agent_again]


def run_all(model, abilities):
    for check in CHECKS:
        error = None
        try:
            check(model, abilities.split(","))
        except Exception:
            error = traceback.format_exc()
        print(json.dumps({"check": check.__name__, "error": error}), flush=True)


if __name__ == "__main__":
    {"all": run_all}[sys.argv[1]](*sys.argv[2:])
