"""`python -m slipstream`: the same as the installed command `slipstream`."""

from slipstream.cli import main

if __name__ == "__main__":
    main()
