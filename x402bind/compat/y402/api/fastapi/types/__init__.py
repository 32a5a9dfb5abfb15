"""The endpoint settings for FastAPI."""
