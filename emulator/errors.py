"""Everything that can go wrong in the core, each error saying what the caller can do about it."""

from __future__ import annotations


class EmulatorError(Exception):
    """The emulator could not do what it was asked to do."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().removesuffix("."))


class InvalidRequest(EmulatorError):
    """The request breaks a rule of the endpoint API."""

    def __init__(self, field: str, value: object, rule: str) -> None:
        super().__init__(f"bad request: {field}: {_shown(value)} {rule}")
        self.field = field
        self.value = value
        self.rule = rule


class MalformedRequest(EmulatorError):
    """The request's body is not a JSON object."""


class BodyTooLarge(MalformedRequest):
    """The request's body is larger than is taken."""


class JobNotFound(EmulatorError):
    """job not found: the id is unknown, or its result has expired."""


class NotRetryable(EmulatorError):
    """Only a FAILED or TIMED_OUT job that has not expired can be retried."""


class EndpointNotFound(EmulatorError):
    """endpoint not found."""


class WorkerGone(EmulatorError):
    """The worker is unknown or going away: it must not ask for jobs any more."""


class ClockError(EmulatorError, ValueError):
    """Time only moves forward: give a positive number of milliseconds."""


class ConfigError(EmulatorError, ValueError):
    """A setting has a value the emulator cannot work with."""


class StateError(EmulatorError):
    """The state file cannot be used."""


class NotKept(StateError):
    """What was asked for cannot be made durable: the state file cannot be written."""


def _shown(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}…"
