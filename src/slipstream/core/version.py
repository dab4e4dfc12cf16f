"""The version of the package, in a module because a checkout need not be installed."""

__version__ = "0.2.0"
