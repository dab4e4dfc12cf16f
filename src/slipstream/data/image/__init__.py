"""Images: files, lists of files, pixels, and images that remain on disk."""
