"""HTTP in: the endpoint API as production has it, and the emulator's own control API."""
