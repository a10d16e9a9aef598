"""`runpod-emulator healthcheck`: does the emulator of this machine (or container) serve?

Run every few seconds by container engines, so it imports nothing but a little of the standard library.
"""

from __future__ import annotations

import http.client
import os
import sys

#: Real seconds. The first answer comes once the control API is imported, which takes a busy machine a while.
_TIMEOUT_S = 10.0


def healthcheck() -> int:
    """Ask for `/_emulator/health` where the EMULATOR_ variables say it is; 0 when it serves, else 1."""
    host = os.environ.get("EMULATOR_HOST") or "127.0.0.1"
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    port = os.environ.get("EMULATOR_PORT") or "8000"
    try:
        connection = http.client.HTTPConnection(host, int(port), timeout=_TIMEOUT_S)
        connection.request("GET", "/_emulator/health")
        status = connection.getresponse().status
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"unhealthy: nothing serves at {host} port {port}: {error}", file=sys.stderr)
        return 1
    if status != http.HTTPStatus.OK:
        print(f"unhealthy: {host} port {port} answered {status}", file=sys.stderr)
        return 1
    print("healthy")
    return 0
