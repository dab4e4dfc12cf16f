"""Sweeps: many runs from one command, trained as packs and compared with each other."""
