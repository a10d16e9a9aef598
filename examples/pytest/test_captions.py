"""The client against an emulator: `pytest`, with `runpod-emulator` installed, is all it takes."""

from collections.abc import Iterator

import pytest
from captions import Captioner, CaptionError, Inbox

from emulator.client import ClockClient, EndpointClient, SinkClient, StubClient

DAY_S = 86_400


@pytest.fixture
def captioner(endpoint: EndpointClient, emulator_clock: ClockClient) -> Iterator[Captioner]:
    """The client under test; when it waits, the emulated time moves on."""
    client = Captioner(
        endpoint.url, endpoint.api_key, pause=lambda seconds: emulator_clock.advance(seconds * 1000)
    )
    yield client
    client.close()


@pytest.fixture
def cat(endpoint: EndpointClient) -> StubClient:
    """The endpoint captions the picture of a cat, which takes it 20 seconds."""
    return endpoint.when(input={"image": "cat.png"}).returns({"caption": "a cat"}, delay=20_000)


def test_a_caption_comes_when_it_is_ready(captioner: Captioner, cat: StubClient) -> None:
    assert captioner.result(captioner.submit("cat.png"), timeout_s=60) == "a cat"
    assert cat.matched == 1


def test_a_picture_that_cannot_be_captioned(captioner: Captioner, endpoint: EndpointClient) -> None:
    endpoint.when(input={"image": "noise.png"}).fails("nothing to see")
    with pytest.raises(CaptionError, match="nothing to see"):
        captioner.result(captioner.submit("noise.png"), timeout_s=60)


def test_a_job_that_takes_too_long_is_cancelled(
    captioner: Captioner, endpoint: EndpointClient, cat: StubClient
) -> None:
    job_id = captioner.submit("cat.png")
    with pytest.raises(CaptionError, match="no caption within 10 s"):
        captioner.result(job_id, timeout_s=10)
    assert endpoint.job(job_id).status == "CANCELLED"


def test_a_busy_api_is_asked_again_when_it_says(
    captioner: Captioner, cat: StubClient, endpoint: EndpointClient
) -> None:
    endpoint.faults.add(operation="run", times=2, then={"status": 429, "headers": {"Retry-After": "7"}})
    assert captioner.result(captioner.submit("cat.png"), timeout_s=60) == "a cat"
    submissions = [request for request in endpoint.requests if request.operation == "run"]
    assert [request.status for request in submissions] == [429, 429, 200]
    assert [later.at_ms - submissions[0].at_ms for later in submissions] == [0, 7_000, 14_000]


def test_cut_connections_are_survived(
    captioner: Captioner, cat: StubClient, endpoint: EndpointClient
) -> None:
    endpoint.faults.add(operation="status", times=1, then={"connection": "reset"})
    endpoint.faults.add(operation="status", times=1, then={"connection": "truncate"})
    assert captioner.result(captioner.submit("cat.png"), timeout_s=60) == "a cat"


@pytest.mark.emulator(faults=["api-outage"])
def test_an_outage_is_told(captioner: Captioner) -> None:
    with pytest.raises(CaptionError, match="the API cannot be used: status 503, 5 times"):
        captioner.submit("cat.png")


def test_a_lost_worker_costs_time_but_no_caption(
    captioner: Captioner, cat: StubClient, endpoint: EndpointClient
) -> None:
    endpoint.faults.add(times=1, then={"crash": "mid", "after_ms": 5_000})
    job_id = captioner.submit("cat.png")
    assert captioner.result(job_id, timeout_s=120) == "a cat"
    assert endpoint.job(job_id).retries == 1


@pytest.mark.emulator(faults=["no-capacity"])
def test_a_day_without_capacity(
    captioner: Captioner, emulator_clock: ClockClient, endpoint: EndpointClient
) -> None:
    job_id = captioner.submit("cat.png", keep_for_s=DAY_S)
    fired = emulator_clock.advance_until(job_id, "TIMED_OUT")
    assert fired[-1].kind == "ttl"
    with pytest.raises(CaptionError, match="its time has run out"):
        captioner.result(job_id, timeout_s=60)


def test_a_webhook_that_fails_twice_still_brings_the_caption(
    captioner: Captioner, cat: StubClient, emulator_clock: ClockClient, webhook_sink: SinkClient
) -> None:
    webhook_sink.answers(500, 500, 200)
    job_id = captioner.submit("cat.png", webhook=webhook_sink.url)
    emulator_clock.advance(20_000 + 10_000 + 10_000)
    inbox = Inbox()
    for delivery in webhook_sink.deliveries:
        if delivery["status"] == 200:
            inbox.receive(delivery["body"])
    assert len(webhook_sink.deliveries) == 3
    assert inbox.captions == {job_id: "a cat"}


def test_a_webhook_that_comes_twice_counts_once(
    captioner: Captioner,
    cat: StubClient,
    emulator_clock: ClockClient,
    webhook_sink: SinkClient,
    endpoint: EndpointClient,
) -> None:
    endpoint.faults.add(then={"webhook": "duplicate"})
    captioner.submit("cat.png", webhook=webhook_sink.url)
    emulator_clock.advance(20_000)
    inbox = Inbox()
    for body in webhook_sink.wait(2):
        inbox.receive(body["body"])
    assert list(inbox.captions.values()) == ["a cat"]
