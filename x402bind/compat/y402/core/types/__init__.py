"""The types that y402 is configured with."""
