"""A local S3-compatible store for the session: `store.py` starts and asks it, `server.py` is its program."""
