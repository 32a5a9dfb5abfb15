"""x402core: the sans-I/O protocol core for payments over HTTP 402."""
