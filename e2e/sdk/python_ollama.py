"""Checks the gateway at BASE_URL with Ollama's official Python SDK and with LangChain's ChatOllama.

    python_ollama.py all MODEL ABILITIES EMBEDDER     one line of JSON per check: {"check", "error"}; abilities are thinking and images
    python_ollama.py leave MODEL                      leaves a stream after its first words
"""

import base64
import json
import os
import sys
import traceback

import ollama
from langchain_ollama import ChatOllama, OllamaEmbeddings

BASE = os.environ["BASE_URL"]
client = ollama.Client(host=BASE, timeout=60)
HELLO = "Hello from the tiny test model."
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def get_weather(city: str) -> str:
    """Says what the weather is.

    Args:
        city: The name of the city.
    """
    return f"fine in {city}"


def say(text):
    return [{"role": "user", "content": text}]


def same(got, want):
    assert got == want, f"got {got!r}, want {want!r}"


def finished(answer, reason="stop"):
    same((answer.done, answer.done_reason), (True, reason))
    assert answer.prompt_eval_count > 0 and answer.eval_count > 0, answer
    assert answer.total_duration > 0 and answer.eval_duration > 0, answer


def chat(model, *_):
    answer = client.chat(model=model, messages=say("hi"))
    same((answer.message.role, answer.message.content), ("assistant", HELLO))
    finished(answer)


def chat_stream(model, *_):
    parts = list(client.chat(model=model, messages=say("hi"), stream=True))
    same("".join(p.message.content for p in parts), HELLO)
    same([p for p in parts[:-1] if p.done], [])
    assert len(parts) > 3, parts
    assert all(p.created_at and p.message.role == "assistant" for p in parts), parts
    finished(parts[-1])


def chat_cut(model, *_):
    answer = client.chat(model=model, messages=say("LONG"), options={"num_predict": 3})
    same(answer.message.content.strip(), "one two three")
    finished(answer, "length")


def chat_tools(model, *_):
    answer = client.chat(model=model, messages=say("What is the weather in Paris?"), tools=[get_weather])
    call = answer.message.tool_calls[0]
    same((call.function.name, call.function.arguments), ("get_weather", {"city": "Paris"}))
    finished(answer)
    turns = [*say("What is the weather in Paris?"), answer.message, {"role": "tool", "tool_name": "get_weather", "content": get_weather("Paris")}]
    same(client.chat(model=model, messages=turns, tools=[get_weather]).message.content, "It is 21 degrees!")


def chat_tools_stream(model, *_):
    parts = list(client.chat(model=model, messages=say("What is the weather in Paris?"), tools=[get_weather], stream=True))
    calls = [c for p in parts for c in p.message.tool_calls or []]
    same([(c.function.name, c.function.arguments) for c in calls], [("get_weather", {"city": "Paris"})])
    finished(parts[-1])


def chat_thinking(model, abilities, *_):
    if "thinking" not in abilities:
        return
    answer = client.chat(model=model, messages=say("THINK"), think=True)
    assert "wants a greeting" in answer.message.thinking, answer
    same(answer.message.content.strip(), HELLO)
    parts = list(client.chat(model=model, messages=say("THINK"), think=True, stream=True))
    assert "wants a greeting" in "".join(p.message.thinking or "" for p in parts), parts


def chat_image(model, abilities, *_):
    if "images" not in abilities:
        return
    answer = client.chat(model=model, messages=[{"role": "user", "content": "What is this?", "images": [base64.b64decode(PIXEL)]}])
    same(answer.message.content, "An image/png of 96 characters.")


def generate(model, *_):
    answer = client.generate(model=model, prompt="hi", system="Be short.")
    same(answer.response, HELLO)
    finished(answer)


def generate_stream(model, *_):
    parts = list(client.generate(model=model, prompt="hi", stream=True))
    same("".join(p.response for p in parts), HELLO)
    finished(parts[-1])


def load(model, *_):
    answer = client.generate(model=model, prompt="", keep_alive="5m")
    same((answer.response, answer.done, answer.done_reason), ("", True, "load"))


def embed(_, __, embedder):
    answer = client.embed(model=embedder, input=["one", "another"])
    same([len(e) for e in answer.embeddings], [64, 64])
    same(len(client.embeddings(model=embedder, prompt="one").embedding), 64)


def list_models(model, *_):
    models = {m.model: m for m in client.list().models}
    assert model in models, models.keys()
    for m in models.values():
        assert m.modified_at and m.digest and m.size is not None and m.details is not None, m


def show(model, *_):
    shown = client.show(model)
    architecture = shown.modelinfo["general.architecture"]
    assert shown.modelinfo[f"{architecture}.context_length"] > 0, shown
    assert "completion" in shown.capabilities, shown


def ps(*_):
    for m in client.ps().models:
        assert m.model and m.expires_at, m


def unknown_model(*_):
    for ask in (
        lambda: client.chat(model="nobody-has-this", messages=say("hi")),
        lambda: list(client.chat(model="nobody-has-this", messages=say("hi"), stream=True)),
        lambda: client.show("nobody-has-this"),
        lambda: client.embed(model="nobody-has-this", input="one"),
        lambda: client.pull("nobody-has-this"),
    ):
        try:
            ask()
        except ollama.ResponseError as error:
            same(error.status_code, 404)
            assert error.error, error
        else:
            raise AssertionError("no error")


def langchain(model, *_):
    chat = ChatOllama(model=model, base_url=BASE, temperature=0)
    answer = chat.invoke("hi")
    same((answer.content, answer.response_metadata["done_reason"]), (HELLO, "stop"))
    assert answer.usage_metadata["output_tokens"] > 0, answer
    same("".join(chunk.content for chunk in chat.stream("hi")), HELLO)


def langchain_tools(model, *_):
    chat = ChatOllama(model=model, base_url=BASE).bind_tools([get_weather])
    calls = chat.invoke("What is the weather in Paris?").tool_calls
    same([(c["name"], c["args"]) for c in calls], [("get_weather", {"city": "Paris"})])


def langchain_embeddings(_, __, embedder):
    same([len(e) for e in OllamaEmbeddings(model=embedder, base_url=BASE).embed_documents(["one", "another"])], [64, 64])


CHECKS = [
    chat, chat_stream, chat_cut, chat_tools, chat_tools_stream, chat_thinking, chat_image, generate, generate_stream, load, embed, list_models, show, ps,
    unknown_model, langchain, langchain_tools, langchain_embeddings,
]  # fmt: skip


def leave(model):
    for part in client.chat(model=model, messages=say("LONG"), stream=True):
        if "two" in part.message.content:
            break


def run_all(*args):
    for check in CHECKS:
        error = None
        try:
            check(*args)
        except Exception:
            error = traceback.format_exc()
        print(json.dumps({"check": check.__name__, "error": error}), flush=True)


if __name__ == "__main__":
    {"all": run_all, "leave": leave}[sys.argv[1]](*sys.argv[2:])
