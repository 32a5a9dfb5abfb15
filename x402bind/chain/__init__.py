"""How the bindings reach a chain: JSON-RPC, signers, and an embedded one to develop against."""
