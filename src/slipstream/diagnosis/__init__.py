"""Diagnosis: why a run fails or works, proven by branches of it that differ in one thing."""
