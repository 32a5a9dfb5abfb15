"""What turns configuration into offers."""
