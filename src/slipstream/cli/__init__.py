"""The command line. A script with components of your own calls `main` after importing them."""

from slipstream.cli.entry import main as main
