"""Causes that lie in the data of a run, each proved by a test on the data."""
