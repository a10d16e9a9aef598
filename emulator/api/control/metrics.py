"""Figures: for Prometheus, and for charts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from emulator.api.control.endpoint_bodies import Charted
from emulator.api.control.given import Given
from emulator.api.control.replies import reply
from emulator.core.json_text import encode
from emulator.history.measures import BUCKETS_S
from emulator.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from emulator.api.control.controls import Controls
    from emulator.history.measures import Duration

_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {}}}}


router = APIRouter()


@router.get("/metrics", response_model=None, responses=_TEXT)
async def metrics(controls: Given) -> Response:
    """All figures, for Prometheus."""
    # Few ask for them, so that the rest need not wait for the import.
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_LATEST

    registry = CollectorRegistry()
    registry.register(_Figures(controls))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/endpoints/{endpoint_id}/charts", response_model=Charted)
async def charts(
    controls: Given,
    endpoint_id: str,
    window_s: Annotated[int, Query(ge=1, le=86_400)] = 300,
    points: Annotated[int, Query(ge=2, le=1_000)] = 60,
) -> Response:
    """An endpoint's figures over the last `window_s` seconds on its clock, in so many steps."""
    measures = controls.measures[controls.endpoint(endpoint_id)]
    figures = measures.charted(window_s * 1000, points)
    return reply(encode({**figures, "webhooks": dict(controls.webhooks.answers[endpoint_id])}))


class _Figures:
    """All endpoints' figures, read when Prometheus asks."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls

    def collect(self) -> Iterator[Metric]:
        """The families, with a sample for each endpoint."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        yield InfoMetricFamily("runpod_emulator", "The emulator.", value={"version": __version__})
        submitted = CounterMetricFamily("runpod_jobs_submitted", "Jobs submitted.", labels=["endpoint"])
        ended = CounterMetricFamily(
            "runpod_jobs_ended", "Jobs by the state in which they ended.", labels=["endpoint", "status"]
        )
        requeued = CounterMetricFamily(
            "runpod_jobs_requeued", "Jobs queued again: lost by a worker, or retried.", labels=["endpoint"]
        )
        queued = GaugeMetricFamily("runpod_jobs_in_queue", "Jobs that wait.", labels=["endpoint"])
        running = GaugeMetricFamily("runpod_jobs_in_progress", "Jobs with a worker.", labels=["endpoint"])
        workers = GaugeMetricFamily("runpod_workers", "Workers by state.", labels=["endpoint", "state"])
        answers = CounterMetricFamily(
            "runpod_webhook_calls", "Calls of webhooks by the answer's status.", labels=["endpoint", "status"]
        )
        for endpoint_id, endpoint in self._controls.endpoints.items():
            measures = self._controls.measures[endpoint]
            submitted.add_metric([endpoint_id], measures.submitted)
            for status, count in sorted(measures.ends.items()):
                ended.add_metric([endpoint_id, status.lower()], count)
            requeued.add_metric([endpoint_id], measures.requeued)
            queued.add_metric([endpoint_id], endpoint.queued_count)
            running.add_metric([endpoint_id], endpoint.life.in_progress)
            for state, count in endpoint.pool.counts().items():
                workers.add_metric([endpoint_id, state], count)
            for answer, count in sorted(self._controls.webhooks.answers[endpoint_id].items()):
                answers.add_metric([endpoint_id, answer], count)
        yield from (submitted, ended, requeued, queued, running, workers, answers)
        yield from self._durations()

    def _durations(self) -> Iterator[Metric]:
        from prometheus_client.core import HistogramMetricFamily

        for name, text in (
            ("delay", "From the queue to a worker."),
            ("execution", "With a worker."),
            ("cold_start", "From a worker's start to its first question for a job."),
        ):
            family = HistogramMetricFamily(f"runpod_{name}_seconds", text, labels=["endpoint"])
            for endpoint_id, endpoint in self._controls.endpoints.items():
                duration: Duration = getattr(self._controls.measures[endpoint], name)
                family.add_metric([endpoint_id], _buckets(duration), duration.total_s)
            yield family


def _buckets(duration: Duration) -> list[tuple[str, float]]:
    """How many took at most so long, as Prometheus has it: each holds those below."""
    buckets, total = [], 0
    for bound, count in zip((*map(float, BUCKETS_S), float("inf")), duration.buckets, strict=True):
        total += count
        buckets.append(("+Inf" if bound == float("inf") else str(bound), float(total)))
    return buckets
