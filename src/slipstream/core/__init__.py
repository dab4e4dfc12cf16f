"""The foundation of the package: registry, types, errors, random numbers, files, the terminal."""
