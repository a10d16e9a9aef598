"""Time: real, scaled, frozen, moved. Knows nothing of jobs."""
