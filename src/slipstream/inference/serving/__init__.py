"""A trained run behind HTTP: rows, files and images in, predictions out."""
