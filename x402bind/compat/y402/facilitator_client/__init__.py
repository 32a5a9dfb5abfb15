"""What can be wrong with a facilitator, in y402's words."""
