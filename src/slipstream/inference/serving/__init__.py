"""Serving of a trained run over HTTP: it takes rows, files and images, and returns predictions."""
