"""The training of a sweep's members."""
