"""x402-mock's API over our core."""
