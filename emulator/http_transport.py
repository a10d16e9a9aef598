"""How the emulator's own calls reach the network: past what a test has put in the place of httpx's methods.

Mocks of httpx (pytest-httpx, respx, vcrpy) replace methods of its classes, and of httpcore below it. Those
here are what was there when this module was imported: the fixtures do that before any mock is in force.
"""

from __future__ import annotations

import httpcore
import httpx


class _Connection(httpcore.HTTPConnection):
    handle_request = httpcore.HTTPConnection.handle_request


class _Pool(httpcore.ConnectionPool):
    handle_request = httpcore.ConnectionPool.handle_request

    def create_connection(self, origin: httpcore.Origin) -> httpcore.ConnectionInterface:
        connection = super().create_connection(origin)
        connection.__class__ = _Connection
        return connection


class Transport(httpx.HTTPTransport):
    """For an `httpx.Client`: no proxies."""

    handle_request = httpx.HTTPTransport.handle_request

    def __init__(self, *, verify: bool) -> None:
        super().__init__(verify=verify, trust_env=False)
        # There is no argument for it.
        self._pool.__class__ = _Pool


class _AsyncConnection(httpcore.AsyncHTTPConnection):
    handle_async_request = httpcore.AsyncHTTPConnection.handle_async_request


class _AsyncPool(httpcore.AsyncConnectionPool):
    handle_async_request = httpcore.AsyncConnectionPool.handle_async_request

    def create_connection(self, origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface:
        connection = super().create_connection(origin)
        connection.__class__ = _AsyncConnection
        return connection


class AsyncTransport(httpx.AsyncHTTPTransport):
    """For an `httpx.AsyncClient`: no proxies."""

    handle_async_request = httpx.AsyncHTTPTransport.handle_async_request

    def __init__(self, *, limits: httpx.Limits) -> None:
        super().__init__(limits=limits, trust_env=False)
        self._pool.__class__ = _AsyncPool
