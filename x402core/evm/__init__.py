"""Hand-built Ethereum primitives, one idea a file: keccak, secp256k1, EIP-712, ABI calls, RLP, typed transactions."""
