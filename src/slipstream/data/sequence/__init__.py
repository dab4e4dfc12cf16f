"""Sequences stored as long tables."""
