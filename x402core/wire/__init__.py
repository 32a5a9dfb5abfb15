"""Bytes to events and back, stateless: strict JSON, headers, and one module per dialect."""
