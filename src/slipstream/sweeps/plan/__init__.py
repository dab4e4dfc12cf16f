"""The plan of a sweep: its space and its members, stored in its folder."""
