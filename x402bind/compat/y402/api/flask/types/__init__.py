"""The endpoint settings for Flask."""
