"""A text as a worker of language models brings it: in the form of the route that was asked, whole or word by
word (docs/openai.md).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from emulator.core.json_text import encode
from emulator.core.result import JobResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WORDS = re.compile(r"\s*\S+\s*\Z|\s*\S+")
_MODEL = "stub"


class Spoken:
    """What a text is to one job: what it streams on the way, and its end.

    :param job_id: the answer's id is made of it.
    :param now_s: when the answer is made, s since the epoch.
    """

    def __init__(self, text: str, job_input: Any, job_id: str, now_s: int) -> None:
        self.text = text
        self.words: list[str] = _WORDS.findall(text)
        self._job_id = job_id
        self._now_s = now_s
        fields = job_input if isinstance(job_input, dict) else {}
        self._route = fields.get("openai_route")
        asked = fields.get("openai_input")
        self._asked: dict[str, Any] = asked if isinstance(asked, dict) else {}
        self._forms: dict[str, tuple[Callable[[], Any], Callable[[], Iterator[str]]]] = {
            "/v1/chat/completions": (self._chat, self._chat_events),
            "/v1/completions": (self._completion, self._completion_events),
            "/v1/responses": (self._response, self._response_events),
        }

    def chunks(self) -> list[bytes]:
        """What is streamed, each as JSON text; nothing unless the request asks for a stream."""
        if self._route is None:
            return [encode(word) for word in self.words]
        if self._route not in self._forms or not self._asked.get("stream"):
            return []
        return [encode(event) for event in self._forms[self._route][1]()]

    def result(self) -> JobResult:
        """The end of the job."""
        if self._route is None:
            return JobResult(output_json=encode(self.text))
        if self._route not in self._forms:
            known = ", ".join(self._forms)
            message = f"this stub says a text, which is an answer of {known}; use returns for {self._route}"
            refused = {"message": message, "type": "invalid_request_error", "param": None, "code": 400}
            return JobResult(output_json=encode({"error": refused}))
        if self._asked.get("stream"):
            # As with a handler that streams and whose chunks are not aggregated.
            return JobResult(output_json=b"[]")
        return JobResult(output_json=encode(self._forms[self._route][0]()))

    @property
    def _model(self) -> Any:
        return self._asked.get("model", _MODEL)

    def _tokens(self) -> tuple[int, int]:
        """How many words were asked, and answered."""
        asked = [self._asked.get(key) for key in ("messages", "prompt", "input", "instructions")]
        return sum(map(_words_in, asked)), len(self.words)

    def _usage(self) -> dict[str, int]:
        asked, said = self._tokens()
        return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}

    def _is_to_count(self) -> bool:
        options = self._asked.get("stream_options")
        return isinstance(options, dict) and bool(options.get("include_usage"))

    # /v1/chat/completions

    def _chat_common(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self._job_id}", "object": kind, "created": self._now_s, "model": self._model
        }  # fmt: skip

    def _chat(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": self.text}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return {**self._chat_common("chat.completion"), "choices": [choice], "usage": self._usage()}

    def _chat_events(self) -> Iterator[str]:
        common = self._chat_common("chat.completion.chunk")

        def delta(fields: dict[str, Any], reason: str | None = None) -> str:
            choice = {"index": 0, "delta": fields, "logprobs": None, "finish_reason": reason}
            return _event({**common, "choices": [choice]})

        yield delta({"role": "assistant", "content": ""})
        for word in self.words:
            yield delta({"content": word})
        yield delta({}, "stop")
        if self._is_to_count():
            yield _event({**common, "choices": [], "usage": self._usage()})
        yield "data: [DONE]\n\n"

    # /v1/completions

    def _completion(self) -> dict[str, Any]:
        return {**self._completion_part(self.text, "stop"), "usage": self._usage()}

    def _completion_events(self) -> Iterator[str]:
        for word in self.words:
            yield _event(self._completion_part(word, None))
        yield _event(self._completion_part("", "stop"))
        if self._is_to_count():
            yield _event({**self._completion_part("", "stop"), "choices": [], "usage": self._usage()})
        yield "data: [DONE]\n\n"

    def _completion_part(self, text: str, reason: str | None) -> dict[str, Any]:
        return {
            "id": f"cmpl-{self._job_id}", "object": "text_completion", "created": self._now_s,
            "model": self._model,
            "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": reason}],
        }  # fmt: skip

    # /v1/responses

    def _response(self) -> dict[str, Any]:
        asked, said = self._tokens()
        usage = {
            "input_tokens": asked, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": said, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": asked + said,
        }  # fmt: skip
        return {**self._response_begun("completed"), "output": [self._message("completed")], "usage": usage}

    def _response_begun(self, status: str) -> dict[str, Any]:
        return {
            "id": f"resp_{self._job_id}", "object": "response", "created_at": self._now_s, "status": status,
            "model": self._model, "output": [], "parallel_tool_calls": True, "tool_choice": "auto",
            "tools": [], "usage": None,
        }  # fmt: skip

    def _message(self, status: str) -> dict[str, Any]:
        content = [_text_part(self.text)] if status == "completed" else []
        return {
            "id": f"msg_{self._job_id}", "type": "message", "role": "assistant", "status": status,
            "content": content,
        }  # fmt: skip

    def _response_events(self) -> Iterator[str]:
        place = {"item_id": f"msg_{self._job_id}", "output_index": 0, "content_index": 0}
        begun, ended = self._message("in_progress"), self._message("completed")
        steps: list[tuple[str, dict[str, Any]]] = [
            ("response.created", {"response": self._response_begun("in_progress")}),
            ("response.in_progress", {"response": self._response_begun("in_progress")}),
            ("response.output_item.added", {"output_index": 0, "item": begun}),
            ("response.content_part.added", {**place, "part": _text_part("")}),
            *(
                ("response.output_text.delta", {**place, "delta": word, "logprobs": []})
                for word in self.words
            ),
            ("response.output_text.done", {**place, "text": self.text, "logprobs": []}),
            ("response.content_part.done", {**place, "part": _text_part(self.text)}),
            ("response.output_item.done", {"output_index": 0, "item": ended}),
            ("response.completed", {"response": self._response()}),
        ]
        for number, (kind, fields) in enumerate(steps):
            yield f"event: {kind}\n" + _event({"type": kind, "sequence_number": number, **fields})


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def _event(fields: dict[str, Any]) -> str:
    return f"data: {json.dumps(fields)}\n\n"


def _words_in(value: Any) -> int:
    """The words of a prompt, of messages, of their parts."""
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, list):
        return sum(map(_words_in, value))
    if isinstance(value, dict):
        return _words_in(value.get("content")) + _words_in(value.get("text"))
    return 0
