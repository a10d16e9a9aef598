"""HTTP out: deliveries of webhooks, and receivers of our own."""
