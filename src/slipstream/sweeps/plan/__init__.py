"""The plan of a sweep: its space and its members, frozen in its folder."""
