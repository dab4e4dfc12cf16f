"""slipstream: a PyTorch training toolkit driven by Hydra YAML."""

__version__ = "0.1.0"
