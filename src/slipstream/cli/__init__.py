"""The command line. A script with its own components imports them, then calls `main`."""

from slipstream.cli.entry import main as main
