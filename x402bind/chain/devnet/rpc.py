"""JSON-RPC 2.0: bytes in, bytes out, whatever the bytes are.

The whole of a request or a batch entry is judged here; a method gets its parameters only when the envelope is sound.  An
exception that is not an :class:`~.errors.RpcError` is a bug: it is logged with its traceback and answered with -32603.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Final

from x402core.errors import RemoteProtocolError
from x402core.wire.json import loads

from . import cheats, eth
from .chain import Chain
from .errors import INTERNAL, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, RpcError
from .eth import Method
from .params import Params

__all__ = ["BODY_MOST", "METHODS", "answer", "refusal"]

METHODS: Final[Mapping[str, Method]] = {**eth.METHODS, **cheats.METHODS}
BODY_MOST: Final = 5 << 20
"""Bytes of one request; go-ethereum's limit."""
_BATCH_MOST: Final = 1000
logger = logging.getLogger(__name__)


def answer(chain: Chain, body: bytes) -> bytes:
    """Return the response to a request body; b"" when it held only notifications."""
    try:
        request = loads(body, most=BODY_MOST)
    except RemoteProtocolError as error:
        return refusal(RpcError(f"parse error: {error.text}", PARSE_ERROR))
    if not isinstance(request, list):
        reply = _one(chain, request)
        return b"" if reply is None else _encode(reply)
    if not 0 < len(request) <= _BATCH_MOST:
        text = "empty batch" if not request else f"batch too large: at most {_BATCH_MOST}"
        return refusal(RpcError(text, INVALID_REQUEST))
    replies = [reply for reply in (_one(chain, each) for each in request) if reply is not None]
    return _encode(replies) if replies else b""


def refusal(error: RpcError) -> bytes:
    """Return the response to something that could not be read as a request."""
    return _encode(_failed(None, error))


def _one(chain: Chain, request: object) -> dict[str, object] | None:
    """Answer one request; None for a notification."""
    if not isinstance(request, dict):
        return _failed(None, RpcError("invalid request: not an object", INVALID_REQUEST))
    id_ = request.get("id")
    if not (id_ is None or type(id_) in (str, int)):
        return _failed(None, RpcError("invalid request: id is not a string, a whole number or null", INVALID_REQUEST))
    try:
        result = _call(chain, request)
    except RpcError as error:
        reply = _failed(id_, error)
    except Exception:
        logger.exception("devnet: %r failed", request.get("method"))
        reply = _failed(id_, RpcError("internal error", INTERNAL))
    else:
        reply = {"jsonrpc": "2.0", "id": id_, "result": result}
    return reply if "id" in request else None


def _call(chain: Chain, request: Mapping[str, object]) -> object:
    name, params = request.get("method"), request.get("params", [])
    if request.get("jsonrpc") != "2.0":
        raise RpcError('invalid request: jsonrpc is not "2.0"', INVALID_REQUEST)
    if not isinstance(name, str):
        raise RpcError("invalid request: method is not a string", INVALID_REQUEST)
    method = METHODS.get(name)
    if method is None:
        raise RpcError(f"the method {name[:80]} does not exist/is not available", METHOD_NOT_FOUND)
    if params is not None and not isinstance(params, list):
        raise RpcError("non-array args", INVALID_PARAMS)
    with chain.locked():
        return method(chain, Params(params or []))


def _failed(id_: object, error: RpcError) -> dict[str, object]:
    body: dict[str, object] = {"code": error.code, "message": error.message}
    if error.data is not None:
        body["data"] = error.data
    return {"jsonrpc": "2.0", "id": id_, "error": body}


def _encode(reply: object) -> bytes:
    return json.dumps(reply, separators=(",", ":")).encode()
