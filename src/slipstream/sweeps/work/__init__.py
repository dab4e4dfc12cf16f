"""Who trains the members of a sweep."""
