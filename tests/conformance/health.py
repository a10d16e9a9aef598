"""The body of /health: every count is always in it."""


def health(jobs: dict[str, int], workers: dict[str, int]) -> dict[str, dict[str, int]]:
    """The whole body; what is not named is 0."""
    return {
        "jobs": job_counts(**jobs),
        "workers": dict.fromkeys(("idle", "initializing", "ready", "running", "throttled", "unhealthy"), 0)
        | workers,
    }


def job_counts(**jobs: int) -> dict[str, int]:
    """Its `jobs`; what is not named is 0."""
    return dict.fromkeys(("completed", "failed", "inProgress", "inQueue", "retried"), 0) | jobs
