"""x402-mock's API, 0.1.1 and 0.3.0, over this project's core: replace ``x402_mock`` by ``x402bind.compat.x402_mock``.

Module for module the same names; both generations of ``add_payment_method`` are understood.  What differs, on purpose:

* A ``.env`` file is read when :func:`load_env` is called, never on import; the environment itself is read when a hub that was
  given no key first needs one.
* Settlements, and which permits were taken, are kept in a ledger: ``x402-mock.db`` in the working directory unless
  ``Http402Server(ledger=...)`` says otherwise.
* An access token opens the route that was paid for, for whoever paid, until its settlement ends void; not every route.

Needs the extra ``x402-mock`` (FastAPI, httpx, pydantic), and ``mcp`` for the tools.
"""

from __future__ import annotations

from .settings import Settings, load_env

__all__ = ["Settings", "load_env"]
