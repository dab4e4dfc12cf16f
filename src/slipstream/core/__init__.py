"""What everything stands on: registry, types, errors, random numbers, files, the terminal."""
