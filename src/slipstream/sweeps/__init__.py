"""Sweeps: many runs from one command, trained as packs, and what they say together."""
