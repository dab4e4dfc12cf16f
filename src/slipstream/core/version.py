"""The version of the package, kept in a module because a checkout may not be installed."""

__version__ = "0.2.0"
