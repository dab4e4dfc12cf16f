"""Training of a sweep's members."""
