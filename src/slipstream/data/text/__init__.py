"""Texts as tokens of a vocabulary."""
