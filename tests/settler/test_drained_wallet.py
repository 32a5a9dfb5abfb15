"""The payer's money is gone between the verdict and the settlement: nothing is served for nothing, and the books are exact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.shop import FUNDS, PRICE, Ground, Payer, Shop, TroubledNode, fresh, token_body, until
from x402bind.servers.held import Receive, Scope, Send
from x402bind.settler import now_millis
from x402core.errors import Reason
from x402core.events import Dialect
from x402core.machines.settlement import SettlementPolicy
from x402core.values import Millis
from x402core.wire import v2
from x402core.wire.v2 import decode_receipt

QUICK = SettlementPolicy(look_first=Millis(5), look_most=Millis(40))


class Doing:
    """A handler during which something happens."""

    def __init__(self, what: Callable[[], object]) -> None:
        self.what = what
        self.runs = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        self.runs += 1
        self.what()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-secret", b"secret")]})
        await send({"type": "http.response.body", "body": b"the secret"})


def test_drained_while_the_handler_runs(ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer()
    doing = Doing(lambda: ground.drain(payer))
    with Shop(ground, tmp_path, app=doing, settlement=QUICK) as shop:
        headers = payer.header(shop.offer(), ground)
        response = httpx.get(shop.paid, headers=headers, timeout=20)
        assert response.status_code == 402
        assert b"secret" not in response.content
        assert "x-secret" not in response.headers
        receipt = decode_receipt(response.headers[v2.PAYMENT_RESPONSE])
        assert (receipt.success, receipt.reason) == (False, Reason.TRANSACTION_FAILED)
        assert (ground.balance(payer.address), shop.earned, doing.runs) == (0, 0, 1)
        again = httpx.get(shop.paid, headers=headers, timeout=20)
        assert again.status_code in (402, 503)
        assert (b"secret" in again.content, doing.runs) == (False, 1)


def test_the_authorization_cancelled_while_the_handler_runs(ground: Ground, tmp_path: Path) -> None:
    from eth_account import Account

    from tests.chain.conduct import CANCEL, TYPES
    from tests.chains import USDC
    from x402core.evm.abi import encode_call

    payer = ground.payer()
    permit: Any = None

    def cancel() -> None:
        where = {"name": "USDC", "version": "2", "chainId": 84532, "verifyingContract": USDC}
        kind = [{"name": name, "type": type_} for name, type_ in TYPES["CancelAuthorization"]]
        message = {"authorizer": payer.address, "nonce": permit.nonce}
        signed = Account.sign_typed_data(payer.key, where, {"CancelAuthorization": kind}, message)
        nonce = bytes.fromhex(permit.nonce[2:])
        parts = (signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big"))
        ground.rpc("anvil_setBalance", payer.address, hex(10**18))
        ground.rpc.must(payer.key, USDC, encode_call(CANCEL, payer.address, nonce, *parts), gas=200_000)

    with Shop(ground, tmp_path, app=Doing(cancel), settlement=QUICK) as shop:
        permit = payer.permit(shop.offer(), ground)
        response = httpx.get(shop.paid, headers=payer.header(shop.offer(), ground, permit=permit), timeout=20)
        assert response.status_code == 402
        assert b"secret" not in response.content
        (entry,) = shop.settled()
        assert entry.state == "void"
        assert (ground.balance(payer.address), shop.earned) == (FUNDS, 0)


def test_settled_first_and_drained_before(ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer()
    with TroubledNode(ground.url) as node, Shop(ground, tmp_path, rpc=node.url, settlement=QUICK, settle="before") as shop:
        node.filter = _at("eth_getTransactionCount", lambda: ground.drain(payer))
        response = httpx.get(shop.paid, headers=payer.header(shop.offer(), ground), timeout=20)
        assert (response.status_code, shop.api.runs) == (402, 0)
        assert (ground.balance(payer.address), shop.earned) == (0, 0)


def _at(method: str, act: Callable[[], object]) -> Callable[[dict[str, Any]], None]:
    done: list[object] = []

    def look(call: dict[str, Any]) -> None:
        if call["method"] == method and not done:
            done.append(method)
            act()

    return look


class Holdable:
    """A shop whose settlements are held up by its node, with a token sold meanwhile."""

    def __init__(self, ground: Ground, folder: Path, node: TroubledNode, **seller: Any) -> None:
        self.ground, self.node = ground, node
        self.shop = Shop(ground, folder, rpc=node.url, settlement=QUICK, **seller)

    def buy(self, payer: Payer, **how: Any) -> dict[str, str]:
        """Buy a token; the node is gone from the moment the settlement wants numbers."""

        def fall(call: dict[str, Any]) -> str | None:
            self.node.down = self.node.down or call["method"] == "eth_getTransactionCount"
            return "down" if self.node.down else None

        self.node.filter = fall
        permit = payer.permit(self.shop.offer(Dialect.PERMIT_TOKEN), self.ground, **how)
        reply = httpx.post(f"{self.shop.url}/token?scope=%2Fpaid", content=token_body(permit), timeout=20)
        assert reply.status_code == 200
        until(lambda: self.node.down)
        headers = {"Authorization": f"Bearer {reply.json()['access_token']}"}
        assert httpx.get(self.shop.paid, headers=headers).status_code == 200  # the payer never waits for the chain
        return headers

    def back(self) -> None:
        self.node.filter = lambda call: None
        self.node.down = False


def test_a_token_outlives_a_node_that_is_down_for_a_while(ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer()
    with TroubledNode(ground.url) as node:
        held = Holdable(ground, tmp_path, node)
        with held.shop as shop:
            headers = held.buy(payer)
            held.back()
            (entry,) = shop.settled()
            assert (entry.state, ground.calls(entry.transactions)) == ("settled", ("permit", "transferFrom"))
            assert httpx.get(shop.paid, headers=headers).status_code == 200
            assert (ground.balance(payer.address), shop.earned) == (FUNDS - PRICE, PRICE)


def test_a_token_stops_working_when_its_payer_is_drained(ground: Ground, tmp_path: Path) -> None:
    payer = ground.payer()
    with TroubledNode(ground.url) as node:
        held = Holdable(ground, tmp_path, node)
        with held.shop as shop:
            headers = held.buy(payer)
            ground.drain(payer)
            held.back()
            (entry,) = shop.settled()
            assert entry.state == "void"
            refused = httpx.get(shop.paid, headers=headers)
            assert (refused.status_code, shop.api.runs) == (402, 1)
            assert (ground.balance(payer.address), shop.earned) == (0, 0)


def test_a_token_stops_working_when_its_permit_expired_unsettled(ground: Ground, tmp_path: Path) -> None:
    payer, ahead = ground.payer(), [0]
    with TroubledNode(ground.url) as node:
        held = Holdable(ground, tmp_path, node, clock=lambda: Millis(now_millis() + ahead[0]))
        with held.shop as shop:
            headers = held.buy(payer)
            ahead[0] = 400_000
            ground.rpc("evm_increaseTime", 400)
            ground.rpc("evm_mine")
            held.back()
            (entry,) = shop.settled()
            assert (entry.state, entry.transactions) == ("void", ())
            assert httpx.get(shop.paid, headers=headers).status_code == 402
            assert (ground.balance(payer.address), shop.earned, ground.sent_by()) == (FUNDS, 0, 0)


def test_a_relayer_without_gas_charges_nobody(ground: Ground, tmp_path: Path) -> None:
    payer, poor = ground.payer(), fresh()
    with Shop(ground, tmp_path, key=poor, patience=0.3, settlement=QUICK) as shop:
        headers = payer.header(shop.offer(), ground)
        response = httpx.get(shop.paid, headers=headers, timeout=20)
        assert (response.status_code, "Retry-After" in response.headers) == (503, True)
        assert b"paid_by" not in response.content
        assert (ground.balance(payer.address), shop.earned) == (FUNDS, 0)
        ground.rpc("anvil_setBalance", poor.address, hex(10**18))
        shop.settled()
        again = httpx.get(shop.paid, headers=headers, timeout=20)
        assert (again.status_code, again.json()["run"], shop.api.runs) == (200, 1, 1)
        assert (ground.balance(payer.address), shop.earned) == (FUNDS - PRICE, PRICE)
