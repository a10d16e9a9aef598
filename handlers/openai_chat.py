r"""A toy language model behind the OpenAI routes, shaped as the vLLM worker is.

It is deterministic: it repeats what it was told, word by word; given tools it calls the first with the last
message as every argument. So a client of a real model can be tried, and tested, without one.

Serve it:

    runpod-emulator serve handlers/openai_chat.py

Try it; `"stream": true` brings the words as they come:

    curl http://127.0.0.1:8000/v2/local/openai/v1/chat/completions -H 'Authorization: Bearer any' \
      -d '{"model": "toy", "messages": [{"role": "user", "content": "Hello there"}]}'

With OpenAI's own client:

    client = OpenAI(base_url="http://127.0.0.1:8000/v2/local/openai/v1", api_key="any")
    client.chat.completions.create(model="toy", messages=[{"role": "user", "content": "Hello there"}])
"""

import base64
import hashlib
import json
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

import runpod

MODEL = "toy"
CREATED = 1_700_000_000
DIMENSIONS = 8

Fields = dict[str, Any]


async def handler(job: Fields) -> AsyncIterator[Any]:
    """Answer the route that was asked for; errors are objects with a code, as the vLLM worker's are."""
    job_input = job["input"]
    route = job_input.get("openai_route", "/v1/completions")
    request: Fields = job_input.get("openai_input") or {}
    if route == "/v1/models":
        yield {
            "object": "list",
            "data": [{"id": MODEL, "object": "model", "created": CREATED, "owned_by": "toy"}],
        }
        return
    answer = ANSWERS.get(route)
    if answer is None:
        yield error(404, "NotFoundError", f"there is no {route} here")
    elif request.get("model", MODEL) != MODEL:
        yield error(404, "NotFoundError", f"The model `{request['model']}` does not exist.")
    else:
        for value in answer(job["id"], request or job_input):
            yield value


def error(code: int, kind: str, message: str) -> Fields:
    """An error as OpenAI's clients know it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def event(fields: Fields, name: str = "") -> str:
    """One server-sent event, as text."""
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(fields)}\n\n"


def words(text: str) -> Iterator[str]:
    """The words of a text, each with the space before it."""
    for number, word in enumerate(text.split()):
        yield word if number == 0 else f" {word}"


def usage(prompt: str, answer: str) -> Fields:
    """What was counted: a token is a word."""
    asked, given = len(prompt.split()), len(answer.split())
    return {"prompt_tokens": asked, "completion_tokens": given, "total_tokens": asked + given}


def text_of(content: Any) -> str:
    """The text of a message's content, which may come in parts."""
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content)
    return str(content or "")


def tool_call(request: Fields, prompt: str) -> Fields | None:
    """A call of the first tool, unless its answer is there already or none is wanted."""
    last = request["messages"][-1]
    if not request.get("tools") or request.get("tool_choice") == "none" or last["role"] == "tool":
        return None
    function = request["tools"][0]["function"]
    names = function.get("parameters", {}).get("properties", {})
    arguments = json.dumps(dict.fromkeys(names, prompt))
    return {
        "id": "call_1",
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }


def chat(job_id: str, request: Fields) -> Iterator[Any]:
    """`/v1/chat/completions`."""
    if not request.get("messages"):
        yield error(400, "BadRequestError", "messages: must not be empty")
        return
    prompt = text_of(request["messages"][-1].get("content"))
    call = tool_call(request, prompt)
    answer = "" if call else prompt
    common = {"id": f"chatcmpl-{job_id}", "created": CREATED, "model": MODEL}
    reason = "tool_calls" if call else "stop"
    if not request.get("stream"):
        message: Fields = {"role": "assistant", "content": answer or None}
        if call:
            message["tool_calls"] = [call]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        yield {**common, "object": "chat.completion", "choices": [choice], "usage": usage(prompt, answer)}
        return

    def chunk(delta: Fields, reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return event({**common, "object": "chat.completion.chunk", "choices": [choice]})

    yield chunk({"role": "assistant", "content": ""})
    if call:
        yield chunk({"tool_calls": [{"index": 0, **call}]})
    for word in words(answer):
        yield chunk({"content": word})
    yield chunk({}, reason)
    if (request.get("stream_options") or {}).get("include_usage"):
        counted = usage(prompt, answer)
        yield event({**common, "object": "chat.completion.chunk", "choices": [], "usage": counted})
    yield "data: [DONE]\n\n"


def completion(job_id: str, request: Fields) -> Iterator[Any]:
    """`/v1/completions`, and jobs that come without a route."""
    prompt = text_of(request.get("prompt"))
    common = {"id": f"cmpl-{job_id}", "object": "text_completion", "created": CREATED, "model": MODEL}
    if not request.get("stream"):
        choice = {"index": 0, "text": prompt, "logprobs": None, "finish_reason": "stop"}
        yield {**common, "choices": [choice], "usage": usage(prompt, prompt)}
        return
    for word in words(prompt):
        choice = {"index": 0, "text": word, "logprobs": None, "finish_reason": None}
        yield event({**common, "choices": [choice]})
    yield event({**common, "choices": [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}]})
    yield "data: [DONE]\n\n"


def embeddings(_job_id: str, request: Fields) -> Iterator[Any]:
    """`/v1/embeddings`: the same text has the same vector."""
    asked = request.get("input")
    texts = asked if isinstance(asked, list) else [asked]
    data = []
    for number, text in enumerate(texts):
        digest = hashlib.sha256(str(text).encode()).digest()
        vector: Any = [byte / 255 for byte in digest[:DIMENSIONS]]
        if request.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *vector)).decode()
        data.append({"object": "embedding", "index": number, "embedding": vector})
    count = sum(len(str(text).split()) for text in texts)
    yield {
        "object": "list",
        "data": data,
        "model": MODEL,
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }


def responses(job_id: str, request: Fields) -> Iterator[Any]:
    """`/v1/responses`."""
    asked = request.get("input")
    prompt = text_of(asked[-1].get("content")) if isinstance(asked, list) else str(asked or "")

    def response(status: str, text: str | None) -> Fields:
        output = [] if text is None else [item(text)]
        counted = usage(prompt, text or "")
        tokens = {
            "input_tokens": counted["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": counted["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": counted["total_tokens"],
        }
        return {
            "id": f"resp_{job_id}", "object": "response", "created_at": CREATED, "status": status,
            "model": MODEL, "output": output, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
            "usage": tokens if status == "completed" else None,
        }  # fmt: skip

    def item(text: str) -> Fields:
        content = {"type": "output_text", "text": text, "annotations": []}
        return {
            "id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [content]
        }  # fmt: skip

    if not request.get("stream"):
        yield response("completed", prompt)
        return
    number = 0

    def told(kind: str, **fields: Any) -> str:
        nonlocal number
        number += 1
        return event({"type": kind, "sequence_number": number, **fields}, kind)

    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    empty = {"type": "output_text", "text": "", "annotations": []}
    yield told("response.created", response=response("in_progress", None))
    yield told(
        "response.output_item.added",
        output_index=0,
        item={**item(""), "status": "in_progress", "content": []},
    )
    yield told("response.content_part.added", **place, part=empty)
    for word in words(prompt):
        yield told("response.output_text.delta", **place, delta=word, logprobs=[])
    yield told("response.output_text.done", **place, text=prompt, logprobs=[])
    yield told("response.content_part.done", **place, part={**empty, "text": prompt})
    yield told("response.output_item.done", output_index=0, item=item(prompt))
    yield told("response.completed", response=response("completed", prompt))


ANSWERS = {
    "/v1/chat/completions": chat,
    "/v1/completions": completion,
    "/v1/embeddings": embeddings,
    "/v1/responses": responses,
}

if __name__ == "__main__":
    runpod.serverless.start({"handler": handler, "return_aggregate_stream": True})
