"""One package for each web framework."""
