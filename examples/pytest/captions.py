"""A client of a Runpod endpoint that captions images, made for what production really does: it is busy, it is
slow, it loses workers, it calls webhooks again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

_ATTEMPTS = 5
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_TERMINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}


class CaptionError(Exception):
    """No caption: the reason is the message."""


class Captioner:
    """Submits images, and waits for their captions.

    `endpoint_url` is like `https://api.runpod.ai/v2/ENDPOINT_ID`; `pause` waits for so many seconds.
    """

    def __init__(
        self, endpoint_url: str, api_key: str, pause: Callable[[float], object] = time.sleep
    ) -> None:
        self._http = httpx.Client(base_url=endpoint_url, headers={"authorization": f"Bearer {api_key}"})
        self._pause = pause

    def submit(self, image: str, *, webhook: str | None = None, keep_for_s: int = 86_400) -> str:
        """Queue an image; returns the job's id. What is not done after `keep_for_s` is given up by Runpod."""
        body: dict[str, Any] = {"input": {"image": image}, "policy": {"ttl": keep_for_s * 1000}}
        if webhook is not None:
            body["webhook"] = webhook
        return str(self._call("POST", "/run", body)["id"])

    def result(self, job_id: str, *, timeout_s: float) -> str:
        """Wait for a caption; a job that takes longer than `timeout_s` is cancelled."""
        waited_s, pause_s = 0.0, _FIRST_PAUSE_S
        while True:
            job = self._call("GET", f"/status/{job_id}")
            if job["status"] in _TERMINAL:
                return caption_of(job)
            if waited_s + pause_s > timeout_s:
                self._call("POST", f"/cancel/{job_id}")
                raise CaptionError(f"no caption within {timeout_s:g} s")
            self._pause(pause_s)
            waited_s, pause_s = waited_s + pause_s, min(pause_s * 2, _LONGEST_PAUSE_S)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """One call, made again when the API is busy, down, or out of reach."""
        problem, pause_s = "", 0.0
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._pause(pause_s)
            pause_s = min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S)
            try:
                answer = self._http.request(method, path, json=body)
            except httpx.TransportError as error:
                problem = str(error)
                continue
            if answer.status_code == 404:
                raise CaptionError("the job is unknown, or its time has run out")
            if answer.status_code == 429 or answer.status_code >= 500:
                pause_s = float(answer.headers.get("retry-after", pause_s))
                problem = f"status {answer.status_code}"
                continue
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
            return found
        raise CaptionError(f"the API cannot be used: {problem}, {_ATTEMPTS} times in a row")


class Inbox:
    """What webhooks bring. Production may call one twice, so each job counts once."""

    def __init__(self) -> None:
        self.captions: dict[str, str] = {}
        self.failures: dict[str, str] = {}

    def receive(self, job: dict[str, Any]) -> None:
        """Take in the body of a webhook."""
        if job["id"] in self.captions or job["id"] in self.failures:
            return
        try:
            self.captions[job["id"]] = caption_of(job)
        except CaptionError as error:
            self.failures[job["id"]] = str(error)


def caption_of(job: dict[str, Any]) -> str:
    """The caption in a finished job's body."""
    if job["status"] != "COMPLETED":
        raise CaptionError(job.get("error") or job["status"])
    return str(job["output"]["caption"])
