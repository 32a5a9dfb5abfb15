"""A facilitator as others meet it: over real HTTP, on a chain that executes."""
