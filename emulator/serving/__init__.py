"""Serving over HTTP: uvicorn on our socket, in this thread or another."""
