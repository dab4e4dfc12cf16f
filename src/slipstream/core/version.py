"""The version of the package, known without its metadata: a checkout need not be installed."""

__version__ = "0.1.0"
