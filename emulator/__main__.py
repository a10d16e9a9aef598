"""`runpod-emulator` and `python -m emulator`."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line."""
    if sys.argv[1:] == ["healthcheck"]:
        from emulator.serving.healthcheck import healthcheck

        sys.exit(healthcheck())
    if sys.argv[1:2] == ["serve"]:
        # All that is loaded stays: to look for garbage among it is a tenth of the start. `Garbage` goes on.
        gc.set_threshold(100_000)
    from emulator.cli import cli

    cli()


if __name__ == "__main__":
    main()
