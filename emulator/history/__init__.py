"""What is remembered of what has happened: the journal, the workers' lines, the log."""
