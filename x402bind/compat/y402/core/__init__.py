"""Setup, prices and what goes on the wire, as y402 names them."""
