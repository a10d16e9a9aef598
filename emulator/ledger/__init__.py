"""State that outlives the process: what is written down as it happens, and told again at the next start."""
