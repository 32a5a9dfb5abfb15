"""Coarse commands as generators of finer ones, written once for the sync and the async world."""
