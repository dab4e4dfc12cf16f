"""Sequences as long tables."""
