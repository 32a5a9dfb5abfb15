"""x402bind: thin bindings that attach x402core to the world."""
