"""The emulator from outside, for plain (not async) code: tests, scripts, the command line.

Everything here is HTTP, so it works the same on an emulator in this process, in another, or in a container.
Only functions (handlers, matchers) cannot travel: they need one in this process.
"""

from emulator.client.clock import ClockClient, Fired
from emulator.client.connection import CallRefused, EmulatorUnreachable, Refused
from emulator.client.emulator import EmulatorClient
from emulator.client.endpoint import EndpointClient, EndpointRequest
from emulator.client.faults import FaultsClient
from emulator.client.job import JobClient
from emulator.client.journal import JournalClient
from emulator.client.sink import SinkClient
from emulator.client.stubs import StubClient

__all__ = [
    "CallRefused",
    "ClockClient",
    "EmulatorClient",
    "EmulatorUnreachable",
    "EndpointClient",
    "EndpointRequest",
    "FaultsClient",
    "Fired",
    "JobClient",
    "JournalClient",
    "Refused",
    "SinkClient",
    "StubClient",
]
