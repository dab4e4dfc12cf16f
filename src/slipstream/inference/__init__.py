"""Trained networks at work: evaluation on new data, and predictions of whole files."""
