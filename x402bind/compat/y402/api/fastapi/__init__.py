"""y402 for FastAPI."""
