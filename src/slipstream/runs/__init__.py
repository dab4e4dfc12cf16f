"""One run from its folder to its end: set up, recorded, resumed, summarized, predicted with."""
