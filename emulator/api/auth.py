"""Who may do what: API keys as production checks them, workers' secrets, code over HTTP, and no web page from
elsewhere. docs/security.md says it for people.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emulator.workers.worker_secrets import WorkerSecrets

#: Of the control API, what anybody may ask: whether it serves. A container's engine has no key.
_OPEN = frozenset({"/_emulator/health", "/_emulator/ready"})
#: Where webhooks are received: whoever calls a webhook has no key either.
_SINK = "/_emulator/sink/"
#: The console's files, which hold no data: the page asks for the key before it asks for anything.
CONSOLE_PATH = "/_emulator/ui"
DOCS_PATH = "/_emulator/docs"
#: Fetches the documentation with a key, which a browser that opens it cannot send.
DOCS_WITH_KEY = f"{CONSOLE_PATH}/docs.html"
#: How a container reaches services of its host; no page can make the name point elsewhere.
_HOST_OF_CONTAINERS = frozenset({"host.docker.internal", "host.containers.internal"})
#: Production's own name, for clients whose host cannot be changed (docs/connect.md).
_PRODUCTION = "api.runpod.ai"
_HOSTS_REMEMBERED = 1_000
#: What webhooks are called by; see `webhooks/deliveries.py`.
_OUR_WEBHOOKS = b"runpod-emulator/"


def is_control(path: str) -> bool:
    """Whether a path is one of the control API."""
    return path == "/_emulator" or path.startswith("/_emulator/")


class Access:
    """What each caller may do. Without any key configured, every key passes: offline use needs no account.

    :param code_over_http: whether anybody who may use the control API may say what workers run.
    :param code_token: whoever knows it may say so in any case; None when nobody does.
    """

    def __init__(
        self,
        api_keys: Collection[str],
        worker_secrets: WorkerSecrets,
        *,
        required: bool = True,
        code_over_http: bool = False,
        code_token: str | None = None,
    ) -> None:
        self._api_keys = tuple(dict.fromkeys(api_keys))
        self._encoded = [key.encode() for key in self._api_keys]
        self._worker_secrets = worker_secrets
        self._required = required
        self._code_over_http = code_over_http
        self._code_token = code_token

    @property
    def checks_keys(self) -> bool:
        """Whether only certain keys pass."""
        return self._required and bool(self._api_keys)

    @property
    def any_key(self) -> str:
        """A key that passes."""
        return next(iter(self._api_keys), "local")

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that pass; none when any does."""
        return self._api_keys

    @cached_property
    def worker_key(self) -> str:
        """A key that passes for workers' calls alone, and from which the others cannot be had.

        It stays the same for as long as the first key does.
        """
        made = hashlib.scrypt(self.any_key.encode(), salt=b"a worker's key", n=2**14, r=8, p=1, dklen=16)
        return f"worker-{made.hex()}"

    def refusal(self, authorization: bytes | None) -> str | None:
        """Why a request with this `Authorization` header does not pass (401); None when it does."""
        if not self._required:
            return None
        key = _key_in(authorization)
        if not key:
            return "no token provided: send the header 'Authorization: Bearer <your API key>'"
        if self._encoded and not any(hmac.compare_digest(key, each) for each in self._encoded):
            return "invalid api key: it is none of those the emulator was started with (--api-key)"
        return None

    def control_refusal(self, path: str, headers: Mapping[bytes, bytes]) -> str | None:
        """Why a request to a path of the control API does not pass (401); None when it does.

        With keys configured all of it asks for one, except whether it serves, the sinks' receiving side, and
        the console's files.
        """
        if not self.checks_keys or path in _OPEN or path.startswith((_SINK, f"{CONSOLE_PATH}/")):
            return None
        return self.refusal(headers.get(b"authorization"))

    def worker_refusal(self, worker_id: str, secret: str, authorization: bytes | None) -> str | None:
        """Why a worker's call does not pass (401); None when it does.

        One that was started here proves itself by the secret in its URLs: the SDK may send another key than
        it was given (wire.md 7). An id proves nothing.
        """
        if self.is_ours(worker_id, secret):
            return None
        if self.checks_keys and hmac.compare_digest(_key_in(authorization), self.worker_key.encode()):
            return None
        return self.refusal(authorization)

    def is_ours(self, worker_id: str, secret: str) -> bool:
        """Whether a call comes from a worker that was started here, be it one that should be gone by now."""
        return bool(secret) and self._worker_secrets.proves(worker_id, secret)

    def code_refusal(self, headers: Mapping[bytes, bytes]) -> str | None:
        """Why this caller may not say what workers run (403); None when it may."""
        if self._code_over_http:
            return None
        token = headers.get(b"x-emulator-code-token", b"")
        if self._code_token and hmac.compare_digest(token, self._code_token.encode()):
            return None
        return (
            "what workers run cannot be set over HTTP here: name it where the emulator is started, or start"
            " it with --allow-code-over-http"
        )


def _key_in(authorization: bytes | None) -> bytes:
    """The key in an `Authorization` header, which may stand there bare."""
    key = (authorization or b"").strip()
    if key[:7].lower() == b"bearer " or key.lower() == b"bearer":
        key = key[7:].strip()
    return key


class BrowserGuard:
    """Keeps web pages from driving the emulator: it runs code, and any page can reach localhost.

    A page's request says where the page is from (`Origin`, `Sec-Fetch-Site`); one that got here by a DNS name
    that was pointed at this machine says so in `Host`.

    :param allow_hosts: names by which it may be called beside those of this machine.
    """

    def __init__(self, *, allow_hosts: Collection[str] = (), loopback_only: bool = True) -> None:
        #: Whether it is reached from this machine alone: then production's own name may stand for it.
        self.loopback_only = loopback_only
        self._names = {_name_of(host) for host in allow_hosts} | _HOST_OF_CONTAINERS | _own_names()
        self._accepted_hosts: set[bytes] = set()

    def refusal(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> str | None:
        """Why a request with these headers is not served (403); None when it is."""
        host = headers.get(b"host", b"")
        if host and host not in self._accepted_hosts:
            named = host.decode("latin-1")
            if not self._accepts(_name_of(named)):
                return (
                    f"the Host {named[:100]!r} is not this machine: use 127.0.0.1 or localhost, or allow"
                    " the name with --allow-host"
                )
            if len(self._accepted_hosts) < _HOSTS_REMEMBERED:
                self._accepted_hosts.add(host)
        origin = headers.get(b"origin")
        if origin is not None and origin.partition(b"://")[2] != host:
            return (
                f"the page {origin.decode('latin-1')[:100]!r} is from elsewhere: the emulator does not serve"
                " other sites' pages; call it from your own server"
            )
        if headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site") and not _only_looks(method, path):
            return (
                "a page from elsewhere sends this: the emulator does not serve other sites' pages; call it"
                " from your own server"
            )
        if headers.get(b"user-agent", b"").startswith(_OUR_WEBHOOKS) and not path.startswith(_SINK):
            return f"a webhook of an emulator may call {_SINK}NAME here, and nothing else"
        return None

    def _accepts(self, name: str) -> bool:
        if "." not in name or is_address(name) or name.endswith(".localhost") or name in self._names:
            return True
        return self.loopback_only and (name == _PRODUCTION or name.endswith(f".{_PRODUCTION}"))


def is_loopback(host: str) -> bool:
    """Whether an address to bind is reachable from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_address(host: str) -> bool:
    """Whether a host is an IP address, which no site's name can be pointed away from."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _only_looks(method: str, path: str) -> bool:
    """Whether a request changes nothing, as that of a link that is followed; a GET can take a job."""
    return method in ("GET", "HEAD") and (path == "/" or is_control(path))


def _name_of(host: str) -> str:
    """The name or address in a `Host`, without its port; as it is where what follows is no port."""
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        is_whole = bool(bracket) and (not rest or rest[0] == ":")
        port = rest[1:]
    else:
        name, _, port = host.partition(":")
        is_whole = True
    if not is_whole or (port and not (port.isascii() and port.isdigit())):
        return f"{host.lower()}."
    return name.lower().rstrip(".")


def _own_names() -> set[str]:
    name = _name_of(socket.gethostname())
    return {name, f"{name}.local"}
