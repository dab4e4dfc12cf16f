"""Exported networks: a folder that predicts without slipstream."""
