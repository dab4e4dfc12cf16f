"""What was asked of a sweep: its space, its members, frozen in its folder."""
