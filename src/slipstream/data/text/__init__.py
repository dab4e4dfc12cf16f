"""Texts as sequences of tokens from a vocabulary."""
