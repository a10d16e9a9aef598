"""All that happens, as one stream of server-sent events (docs/console.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.sse import format_sse_event

from emulator.api.control.controls import ControlError
from emulator.api.control.event_stream import EventStream
from emulator.api.control.given import Given
from emulator.core.json_text import NotJSON, encode
from emulator.history.event_feed import FOLLOWERS_MAX
from emulator.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from emulator.history.event_feed import EventFeed, FeedEvent

_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
_HINT = "see docs/console.md"
#: Beyond the worker's calls, which are many and say what the other events say.
_UNASKED = frozenset({"worker", "api"})


router = APIRouter()


@router.get("/events", response_model=None, responses=_STREAM)
async def events(
    controls: Given, request: Request, kind: Annotated[list[str] | None, Query()] = None
) -> EventStream:
    """What happens from now on, as server-sent events: `kind` may be given several times; without it all
    kinds come but the calls, `api` and `worker`. With `Last-Event-ID` what has come since is sent first.
    The first event, `hello`, says whether something was `missed` meanwhile.
    """
    feed = controls.feed
    if feed.followers >= FOLLOWERS_MAX:
        raise ControlError(
            429, "too_many", f"{FOLLOWERS_MAX} streams of events are open already: close some", _HINT
        )
    after = _number(request.headers.get("last-event-id", ""), feed)
    wanted = None if kind is None else frozenset(kind)
    return EventStream(_counted(feed, _written(feed, after, wanted, is_open=controls.is_open())))


async def _counted(feed: EventFeed, written: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    feed.followers += 1
    try:
        async for part in written:
            yield part
    finally:
        feed.followers -= 1


async def _written(
    feed: EventFeed, after: int | None, kinds: frozenset[str] | None, *, is_open: bool
) -> AsyncIterator[bytes]:
    resumed = after is not None
    begin = feed.last_number if after is None else after
    hello = {
        "run": feed.run,
        "version": __version__,
        "resumed": resumed,
        "missed": resumed and feed.since(begin).missed,
        "open": is_open,
    }
    yield format_sse_event(event="hello", data_str=encode(hello).decode(), id=f"{feed.run}-{begin}")
    first = True
    async for news in feed.follow(begin):
        parts = [_event(feed, each) for each in news.events if _is_wanted(each.kind, kinds)]
        if news.missed and not first:
            parts.insert(0, format_sse_event(event="missed", data_str="{}"))
        first = False
        yield b"".join(parts) if parts else b": nothing new\n\n"


def _is_wanted(kind: str, kinds: frozenset[str] | None) -> bool:
    return kind not in _UNASKED if kinds is None else kind in kinds


def _event(feed: EventFeed, event: FeedEvent) -> bytes:
    try:
        text = encode(event.news())
    except (NotJSON, RecursionError):
        text = b'{"text":"nested too deeply to be shown"}'
    return format_sse_event(event=event.kind, data_str=text.decode(), id=f"{feed.run}-{event.event_number}")


def _number(last_id: str, feed: EventFeed) -> int | None:
    """The number of the last event the client has; None when it is of another run, or was made up."""
    run, _, number = last_id.partition("-")
    if run != feed.run or not (number.isascii() and number.isdigit() and len(number) < 16):
        return None
    return min(int(number), feed.last_number)
