"""The endpoint itself: queue, workers, policies and time. Pure; it knows nothing of HTTP or processes."""
