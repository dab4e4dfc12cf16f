"""Images: files, lists of them, pixels, and those that stay on disk."""
