"""The state machines, one table each."""
