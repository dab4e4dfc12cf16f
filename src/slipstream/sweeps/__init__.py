"""Sweeps: many runs from one command, trained as packs and evaluated together."""
