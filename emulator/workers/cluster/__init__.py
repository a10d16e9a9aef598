"""Workers that are placed on a Ray cluster."""
