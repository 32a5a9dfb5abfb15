"""Contracts of our own for the embedded chain: their source, and the compiled artifact next to it."""
