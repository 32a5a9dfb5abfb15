"""y402 for Flask."""
