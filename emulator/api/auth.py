"""Who may call: API keys as production checks them, and no web page from elsewhere."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping

#: How a container reaches services of its host; no page can make the name point elsewhere.
_HOST_OF_CONTAINERS = frozenset({"host.docker.internal", "host.containers.internal"})


class Access:
    """The API keys that pass. Without any configured, every key does: offline use needs no account."""

    def __init__(self, api_keys: Collection[str] = (), *, required: bool = True) -> None:
        self._api_keys = frozenset(api_keys)
        self._required = required

    @property
    def checks_keys(self) -> bool:
        """Whether only certain keys pass."""
        return self._required and bool(self._api_keys)

    @property
    def any_key(self) -> str:
        """A key that passes."""
        return next(iter(self._api_keys), "local")

    def refusal(self, authorization: bytes | None) -> str | None:
        """Why a request with this `Authorization` header does not pass (401); None when it does."""
        if not self._required:
            return None
        key = (authorization or b"").decode("latin-1").strip()
        if key[:7].lower() == "bearer " or key.lower() == "bearer":
            key = key[7:].strip()
        if not key:
            return "no token provided: send the header 'Authorization: Bearer <your API key>'"
        if self._api_keys and key not in self._api_keys:
            return "invalid api key: it is none of those the emulator was started with (--api-key)"
        return None


class BrowserGuard:
    """Keeps web pages from driving the emulator: it runs code, and any page can reach localhost.

    A page's request says where the page is from (`Origin`); one that got here by a DNS name that was
    pointed at this machine says so in `Host`.
    """

    def __init__(self, *, loopback_only: bool = False) -> None:
        #: Whether only names of this machine are accepted as `Host`.
        self.loopback_only = loopback_only
        self._accepted_hosts: set[bytes] = set()

    def refusal(self, headers: Mapping[bytes, bytes]) -> str | None:
        """Why a request with these headers is not served (403); None when it is."""
        host = headers.get(b"host", b"")
        if self.loopback_only and host and host not in self._accepted_hosts:
            if not _is_local(host.decode("latin-1")):
                named = host.decode("latin-1")[:100]
                return f"the Host {named!r} is not this machine: use 127.0.0.1 or localhost"
            self._accepted_hosts.add(host)
        origin = headers.get(b"origin")
        if origin is not None and origin.partition(b"://")[2] != host:
            return (
                f"the page {origin.decode('latin-1')[:100]!r} is from elsewhere: the emulator does not serve"
                " other sites' pages; call it from your own server"
            )
        return None


def is_loopback(host: str) -> bool:
    """Whether an address to bind is reachable from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_local(host: str) -> bool:
    name = host.partition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
    name = name.lower().rstrip(".")
    return is_loopback(name) or name.endswith(".localhost") or name in _HOST_OF_CONTAINERS
