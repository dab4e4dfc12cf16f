"""The searchers, on Optuna."""
