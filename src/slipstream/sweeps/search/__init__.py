"""Searchers, based on Optuna."""
