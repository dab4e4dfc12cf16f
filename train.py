"""Train a network that the command line describes: `python train.py --help`."""

from slipstream.cli import main

if __name__ == "__main__":
    main()
