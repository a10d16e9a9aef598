"""`runpod-emulator` and `python -m emulator`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    if sys.argv[1:] == ["healthcheck"]:
        from emulator.serving.healthcheck import healthcheck

        sys.exit(healthcheck())
    from emulator.cli import cli

    cli()


if __name__ == "__main__":
    main()
