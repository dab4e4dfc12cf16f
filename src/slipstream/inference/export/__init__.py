"""Export of networks to a folder that predicts without slipstream."""
