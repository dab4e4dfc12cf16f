"""`python -m slipstream`, the same as the installed `slipstream`."""

from slipstream.cli import main

if __name__ == "__main__":
    main()
