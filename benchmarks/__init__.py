"""How fast and how frugal the emulator is, beside a bare ASGI app and the SDK's own development server.

`python -m benchmarks` runs everything and prints a table; nothing here fails a build over a slow machine.
"""
