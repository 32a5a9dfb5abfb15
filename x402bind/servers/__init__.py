"""Servers: one edge a file."""
