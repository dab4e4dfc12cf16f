"""Causes that `why` knows: what suggests each, and the change that proves it."""
