"""The code under test: what an app would have. It knows of no emulator, only of a base URL."""

from __future__ import annotations

from typing import Any

import httpx


class CaptionFailed(Exception):
    """The endpoint could not do it; the message says why."""


class CaptionService:
    """Captions of images, made by a Runpod endpoint.

    :param base_url: `https://api.runpod.ai/v2`, or the emulator's.
    """

    def __init__(self, endpoint_id: str, *, api_key: str, base_url: str) -> None:
        self._http = httpx.Client(
            base_url=f"{base_url}/{endpoint_id}/",
            headers={"authorization": f"Bearer {api_key}"},
            timeout=100,
            trust_env=False,
        )

    def caption(self, image: str) -> str:
        """The caption of an image; waits for it.

        :raises CaptionFailed: there is none.
        """
        job = self._asked("POST", "runsync", {"input": {"image": image}})
        if job["status"] != "COMPLETED":
            raise CaptionFailed(job.get("error", job["status"]))
        return str(job["output"]["caption"])

    def order(self, image: str, *, webhook: str | None = None, patience_ms: int = 600_000) -> str:
        """Order a caption that may take a while; returns the job's id. The webhook is called at its end."""
        body: dict[str, Any] = {"input": {"image": image}, "policy": {"executionTimeout": patience_ms}}
        if webhook is not None:
            body["webhook"] = webhook
        return str(self._asked("POST", "run", body)["id"])

    def is_there(self, job_id: str) -> bool:
        """Whether an order is done.

        :raises CaptionFailed: it never will be.
        """
        job = self._asked("GET", f"status/{job_id}")
        if job["status"] in ("FAILED", "CANCELLED", "TIMED_OUT"):
            raise CaptionFailed(job.get("error", job["status"]))
        return bool(job["status"] == "COMPLETED")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _asked(self, method: str, path: str, body: object = None) -> Any:
        return self._http.request(method, path, json=body).raise_for_status().json()
