"""Workers that are containers of an image, as in production."""
