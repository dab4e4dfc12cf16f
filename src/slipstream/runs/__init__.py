"""A run from its folder to its end: setup, recording, resuming, summary, prediction."""
