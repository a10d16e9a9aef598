"""What a test orders: failures, answers without a handler, and what an input must be like for them."""
