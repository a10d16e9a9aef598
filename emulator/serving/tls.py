"""HTTPS for clients whose host cannot be changed, by a certificate authority of this user's own.

The authority is made once and kept, so that clients go on trusting it. It is in nobody's trust store: a
client trusts it because a variable names its file (docs/connect.md).
"""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.errors import ConfigError

if TYPE_CHECKING:
    import trustme

#: What the certificate is for: production's hosts, and this machine.
NAMES = ("api.runpod.ai", "*.api.runpod.ai", "localhost", "127.0.0.1", "::1")
_OWNER = "runpod-emulator"


@dataclass(slots=True, frozen=True)
class ServedTLS:
    """How HTTPS is reached: its URL, the certificate that a client must trust, and that among all others."""

    url: str
    certificate: Path
    bundle: Path


class LocalAuthority:
    """The authority in a folder: `certificate` is what a client must trust, `bundle` the same among all those
    that it trusts anyway, for variables that take the place of these.

    :raises ConfigError: the extra `tls` is not installed, or the folder cannot be used.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = _default_folder() if folder is None else folder
        self.certificate = self.folder / "ca.pem"
        self.bundle = self.folder / "bundle.pem"
        self._key = self.folder / "ca-key.pem"
        try:
            import trustme
        except ImportError as error:
            raise ConfigError("--tls needs the extra tls: pip install 'runpod-emulator[tls]'") from error
        try:
            self._authority = self._kept(trustme.CA) or self._made(trustme.CA)
            self._write_bundle()
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the certificate authority in {self.folder} cannot be used ({error}): see to the folder,"
                " remove it, or have another with XDG_STATE_HOME"
            ) from error

    def context(self) -> ssl.SSLContext:
        """For a server that answers to `NAMES`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(*NAMES, organization_name=_OWNER).configure_cert(context)
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _kept(self, kind: type[trustme.CA]) -> trustme.CA | None:
        if not (self.certificate.exists() and self._key.exists()):
            return None
        return kind.from_pem(self.certificate.read_bytes(), self._key.read_bytes())

    def _made(self, kind: type[trustme.CA]) -> trustme.CA:
        authority = kind(organization_name=_OWNER)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write(self._key, authority.private_key_pem.bytes())
        self._write(self.certificate, authority.cert_pem.bytes())
        return authority

    def _write_bundle(self) -> None:
        import certifi

        self._write(self.bundle, Path(certifi.where()).read_bytes() + b"\n" + self.certificate.read_bytes())

    def _write(self, path: Path, content: bytes) -> None:
        """Whole or not at all, and for the user alone."""
        draft = path.with_suffix(f".{os.getpid()}")
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
            draft.replace(path)
        finally:
            with suppress(FileNotFoundError):
                draft.unlink()


def _default_folder() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / _OWNER / "tls"
