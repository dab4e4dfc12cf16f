"""Diagnosis: why a run fails or works, shown by branches of the run that differ in one thing."""
