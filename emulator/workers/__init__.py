"""Who runs handlers. Every kind of worker speaks to the gateway and to nothing else of the core."""
