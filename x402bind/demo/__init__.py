"""``x402 demo``: a chain, a seller and a payer as three processes on loopback, and money that moves between them."""
