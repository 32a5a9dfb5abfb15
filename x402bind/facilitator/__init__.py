"""A facilitator one can run: put together (``service``), spoken over HTTP (``app``), with quotas and metrics."""
