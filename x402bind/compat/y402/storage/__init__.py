"""Where payments are kept for the webhook workers."""
