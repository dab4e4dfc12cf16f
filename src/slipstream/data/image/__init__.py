"""Images: files, lists of files, pixels, and images that stay on disk."""
