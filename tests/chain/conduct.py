"""How a USDC-like token behaves, said once: our token and Circle's own, on our chain and on anvil, all pass these tests.

Signatures are made by ``eth_account``, which shares no code with us.  A refusal is looked at twice: the call says why, and
the transaction, really sent, leaves every balance and every nonce as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from eth_account import Account

from tests.chains import BASE_SEPOLIA, Rpc
from x402bind.chain.devnet.keys import DEV_KEYS, dev_accounts
from x402core.evm.abi import encode_call, event_topic
from x402core.evm.digests import domain
from x402core.values import Address

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
FOREVER = 2**256 - 1
FUNDS = 1_000_000
SIGNATURE = "uint8,bytes32,bytes32"
TRANSFER = f"transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,{SIGNATURE})"
RECEIVE = f"receiveWithAuthorization(address,address,uint256,uint256,uint256,bytes32,{SIGNATURE})"
CANCEL = f"cancelAuthorization(address,bytes32,{SIGNATURE})"
PERMIT = f"permit(address,address,uint256,uint256,{SIGNATURE})"

OWNER, PAYER, PAYEE, RELAYER, STRANGER = dev_accounts()[:5]
OWNER_KEY, PAYER_KEY, PAYEE_KEY, RELAYER_KEY, STRANGER_KEY = DEV_KEYS[:5]

AUTHORIZATION_FIELDS = [
    ("from", "address"),
    ("to", "address"),
    ("value", "uint256"),
    ("validAfter", "uint256"),
    ("validBefore", "uint256"),
    ("nonce", "bytes32"),
]
TYPES = {
    "TransferWithAuthorization": AUTHORIZATION_FIELDS,
    "ReceiveWithAuthorization": AUTHORIZATION_FIELDS,
    "CancelAuthorization": [("authorizer", "address"), ("nonce", "bytes32")],
    "Permit": [
        ("owner", "address"),
        ("spender", "address"),
        ("value", "uint256"),
        ("nonce", "uint256"),
        ("deadline", "uint256"),
    ],
}


@dataclass
class Ground:
    """A token on a node; PAYER holds FUNDS of it and nobody else anything."""

    rpc: Rpc
    token: Address
    name: str = "USDC"
    version: str = "2"

    def sign(self, key: bytes, kind: str, *values: Any, chain: int = BASE_SEPOLIA) -> tuple[int, bytes, bytes]:
        """Return v, r, s over one of TYPES."""
        fields = TYPES[kind]
        where = {"name": self.name, "version": self.version, "chainId": chain, "verifyingContract": self.token}
        types = {kind: [{"name": name, "type": type_} for name, type_ in fields]}
        message = dict(zip([name for name, _ in fields], values, strict=True))
        signed = Account.sign_typed_data(key, where, types, message)
        return signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big")

    def pay(self, nonce: bytes, amount: int = 10, *, key: bytes = PAYER_KEY, after: int = 0, before: int = FOREVER) -> bytes:
        """Return the calldata of a transferWithAuthorization from PAYER to PAYEE."""
        values = (PAYER, PAYEE, amount, after, before, nonce)
        return encode_call(TRANSFER, *values, *self.sign(key, "TransferWithAuthorization", *values))

    def balances(self) -> tuple[int, ...]:
        return tuple(self.rpc.balance(self.token, each) for each in (PAYER, PAYEE, RELAYER, STRANGER))

    def used(self, nonce: bytes, who: Address = PAYER) -> bool:
        return self.rpc.view(self.token, "bool", "authorizationState(address,bytes32)", who, nonce)

    def allowance(self, spender: Address) -> int:
        return self.rpc.view(self.token, "uint256", "allowance(address,address)", PAYER, spender)

    def permits(self, owner: Address = PAYER) -> int:
        return self.rpc.view(self.token, "uint256", "nonces(address)", owner)

    def send(self, data: bytes, key: bytes = RELAYER_KEY) -> dict[str, Any]:
        return self.rpc.must(key, self.token, data, gas=500_000)

    def refused(self, data: bytes, because: str, key: bytes = RELAYER_KEY, sender: Address = RELAYER) -> None:
        """Check that a call fails for a reason, and that sending it anyway moves nothing."""
        why = self.rpc.why(self.token, data, sender)
        assert because in why, why
        before = self.balances()
        assert self.rpc.send(key, self.token, data, gas=500_000)["status"] == "0x0"
        assert self.balances() == before


@contextmanager
def undone(rpc: Rpc) -> Iterator[None]:
    """Undo what a test does to a shared node."""
    snapshot = rpc("evm_snapshot")
    try:
        yield
    finally:
        assert rpc("evm_revert", snapshot) is True


def nonce(number: int) -> bytes:
    return number.to_bytes(32, "big")


def word(address: Address) -> str:
    return "0x" + address[2:].rjust(64, "0")


def flipped(v: int, r: bytes, s: bytes) -> tuple[int, bytes, bytes]:
    """Return the malleable twin of a signature: it recovers to the same key, with a high s."""
    return 55 - v, r, (ORDER - int.from_bytes(s, "big")).to_bytes(32, "big")


class TokenConduct:
    """Inherit, and provide a fixture ``ground``."""

    def test_it_names_itself_and_its_domain(self, ground: Ground) -> None:
        view = ground.rpc.view
        assert view(ground.token, "string", "name()") == ground.name
        assert view(ground.token, "string", "symbol()") == "USDC"
        assert view(ground.token, "string", "version()") == ground.version
        assert view(ground.token, "uint8", "decimals()") == 6
        separator = domain(ground.name, ground.version, BASE_SEPOLIA, ground.token)
        assert view(ground.token, "bytes32", "DOMAIN_SEPARATOR()") == separator

    # ------------------------------------------------------------ ERC-20

    def test_a_transfer_moves_exactly_its_amount(self, ground: Ground) -> None:
        receipt = ground.send(encode_call("transfer(address,uint256)", PAYEE, 7), PAYER_KEY)
        assert ground.balances() == (FUNDS - 7, 7, 0, 0)
        (log,) = receipt["logs"]
        assert log["address"].lower() == ground.token
        assert log["topics"] == [event_topic("Transfer(address,address,uint256)"), word(PAYER), word(PAYEE)]
        assert int(log["data"], 16) == 7

    def test_nobody_can_send_more_than_they_have(self, ground: Ground) -> None:
        data = encode_call("transfer(address,uint256)", PAYEE, FUNDS + 1)
        ground.refused(data, "exceeds balance", PAYER_KEY, PAYER)

    def test_a_transfer_to_nobody_is_refused(self, ground: Ground) -> None:
        data = encode_call("transfer(address,uint256)", "0x" + 40 * "0", 1)
        ground.refused(data, "zero address", PAYER_KEY, PAYER)

    def test_an_allowance_is_spent_and_not_exceeded(self, ground: Ground) -> None:
        ground.send(encode_call("approve(address,uint256)", RELAYER, 10), PAYER_KEY)
        move = encode_call("transferFrom(address,address,uint256)", PAYER, PAYEE, 6)
        ground.send(move)
        assert ground.allowance(RELAYER) == 4
        assert ground.balances() == (FUNDS - 6, 6, 0, 0)
        ground.refused(move, "exceeds allowance")

    # ------------------------------------------------------------ EIP-2612

    def permit(self, ground: Ground, key: bytes = PAYER_KEY, deadline: int = FOREVER, number: int = 0) -> bytes:
        signature = ground.sign(key, "Permit", PAYER, RELAYER, 100, number, deadline)
        return encode_call(PERMIT, PAYER, RELAYER, 100, deadline, *signature)

    def test_a_permit_lets_the_spender_collect(self, ground: Ground) -> None:
        receipt = ground.send(self.permit(ground))
        assert ground.allowance(RELAYER) == 100
        assert ground.permits() == 1
        approval = event_topic("Approval(address,address,uint256)")
        assert [log["topics"] for log in receipt["logs"]] == [[approval, word(PAYER), word(RELAYER)]]
        ground.send(encode_call("transferFrom(address,address,uint256)", PAYER, PAYEE, 100))
        assert ground.balances() == (FUNDS - 100, 100, 0, 0)
        assert ground.allowance(RELAYER) == 0

    def test_a_permit_works_once(self, ground: Ground) -> None:
        data = self.permit(ground)
        ground.send(data)
        ground.refused(data, "invalid signature")
        assert ground.permits() == 1

    def test_a_permit_for_a_later_number_waits(self, ground: Ground) -> None:
        ground.refused(self.permit(ground, number=1), "invalid signature")

    def test_a_permit_expires_after_its_deadline(self, ground: Ground) -> None:
        at = ground.rpc.now() + 1000
        data = self.permit(ground, deadline=at)
        ground.rpc("evm_setNextBlockTimestamp", at + 1)
        assert ground.rpc.send(RELAYER_KEY, ground.token, data, gas=500_000)["status"] == "0x0"
        ground.refused(data, "expired")
        assert (ground.allowance(RELAYER), ground.permits()) == (0, 0)

    def test_a_permit_holds_up_to_its_deadline(self, ground: Ground) -> None:
        at = ground.rpc.now() + 1000
        data = self.permit(ground, deadline=at)
        ground.rpc("evm_setNextBlockTimestamp", at)
        ground.send(data)
        assert ground.allowance(RELAYER) == 100

    def test_a_permit_of_somebody_else_is_refused(self, ground: Ground) -> None:
        ground.refused(self.permit(ground, STRANGER_KEY), "invalid signature")

    def test_a_permit_with_a_high_s_is_refused(self, ground: Ground) -> None:
        signature = flipped(*ground.sign(PAYER_KEY, "Permit", PAYER, RELAYER, 100, 0, FOREVER))
        ground.refused(encode_call(PERMIT, PAYER, RELAYER, 100, FOREVER, *signature), "invalid signature")

    # ------------------------------------------------------------ EIP-3009

    def test_an_authorization_moves_money_and_says_so(self, ground: Ground) -> None:
        receipt = ground.send(ground.pay(nonce(1), 25))
        assert ground.balances() == (FUNDS - 25, 25, 0, 0)
        assert ground.used(nonce(1))
        used, moved = receipt["logs"]
        assert used["topics"] == [event_topic("AuthorizationUsed(address,bytes32)"), word(PAYER), "0x" + nonce(1).hex()]
        assert moved["topics"] == [event_topic("Transfer(address,address,uint256)"), word(PAYER), word(PAYEE)]
        assert int(moved["data"], 16) == 25

    def test_an_authorization_works_once(self, ground: Ground) -> None:
        data = ground.pay(nonce(2))
        ground.send(data)
        ground.refused(data, "authorization is used")

    def test_authorizations_need_no_order(self, ground: Ground) -> None:
        for number in (9, 3, 2**255, 4):
            ground.send(ground.pay(nonce(number), 1))
        assert ground.balances() == (FUNDS - 4, 4, 0, 0)

    @pytest.mark.parametrize(
        ("second", "because"),
        [(0, "not yet valid"), (1, ""), (99, ""), (100, "expired"), (101, "expired")],
        ids=["at validAfter", "just after it", "just before validBefore", "at validBefore", "after it"],
    )
    def test_both_ends_of_the_validity_are_exclusive(self, ground: Ground, second: int, because: str) -> None:
        start = ground.rpc.now() + 1000
        data = ground.pay(nonce(5), after=start, before=start + 100)
        ground.rpc("evm_setNextBlockTimestamp", start + second)
        receipt = ground.rpc.send(RELAYER_KEY, ground.token, data, gas=500_000)
        assert receipt["status"] == ("0x0" if because else "0x1")
        assert ground.used(nonce(5)) is not bool(because)
        if because and second:
            ground.refused(data, because)

    def test_one_that_is_early_says_so(self, ground: Ground) -> None:
        data = ground.pay(nonce(6), after=ground.rpc.now() + 10_000)
        ground.refused(data, "not yet valid")
        assert not ground.used(nonce(6))

    def test_one_of_somebody_else_is_refused(self, ground: Ground) -> None:
        ground.refused(ground.pay(nonce(7), key=STRANGER_KEY), "invalid signature")
        assert not ground.used(nonce(7))

    def test_a_changed_amount_is_refused(self, ground: Ground) -> None:
        signature = ground.sign(PAYER_KEY, "TransferWithAuthorization", PAYER, PAYEE, 10, 0, FOREVER, nonce(8))
        ground.refused(encode_call(TRANSFER, PAYER, PAYEE, 11, 0, FOREVER, nonce(8), *signature), "invalid signature")

    def test_a_changed_payee_is_refused(self, ground: Ground) -> None:
        signature = ground.sign(PAYER_KEY, "TransferWithAuthorization", PAYER, PAYEE, 10, 0, FOREVER, nonce(8))
        data = encode_call(TRANSFER, PAYER, STRANGER, 10, 0, FOREVER, nonce(8), *signature)
        ground.refused(data, "invalid signature")

    def test_one_for_another_chain_is_refused(self, ground: Ground) -> None:
        values = (PAYER, PAYEE, 10, 0, FOREVER, nonce(10))
        signature = ground.sign(PAYER_KEY, "TransferWithAuthorization", *values, chain=8453)
        ground.refused(encode_call(TRANSFER, *values, *signature), "invalid signature")

    def test_a_high_s_is_refused(self, ground: Ground) -> None:
        values = (PAYER, PAYEE, 10, 0, FOREVER, nonce(11))
        signature = flipped(*ground.sign(PAYER_KEY, "TransferWithAuthorization", *values))
        ground.refused(encode_call(TRANSFER, *values, *signature), "invalid signature")

    def test_a_y_parity_is_no_v(self, ground: Ground) -> None:
        values = (PAYER, PAYEE, 10, 0, FOREVER, nonce(12))
        v, r, s = ground.sign(PAYER_KEY, "TransferWithAuthorization", *values)
        ground.refused(encode_call(TRANSFER, *values, v - 27, r, s), "invalid signature")

    def test_the_zero_address_cannot_be_impersonated_by_garbage(self, ground: Ground) -> None:
        """ecrecover answers zero for a signature that recovers to nothing."""
        zero = "0x" + 40 * "0"
        data = encode_call(TRANSFER, zero, PAYEE, 0, 0, FOREVER, nonce(13), 27, bytes(32), bytes(32))
        ground.refused(data, "invalid signature")

    def test_one_without_the_money_is_not_used_up(self, ground: Ground) -> None:
        ground.refused(ground.pay(nonce(14), FUNDS + 1), "exceeds balance")
        assert not ground.used(nonce(14))

    def test_only_the_payee_receives(self, ground: Ground) -> None:
        values = (PAYER, PAYEE, 30, 0, FOREVER, nonce(15))
        data = encode_call(RECEIVE, *values, *ground.sign(PAYER_KEY, "ReceiveWithAuthorization", *values))
        ground.refused(data, "caller must be the payee")
        ground.send(data, PAYEE_KEY)
        assert ground.balances() == (FUNDS - 30, 30, 0, 0)
        assert ground.used(nonce(15))

    def test_a_transfer_is_not_a_receive(self, ground: Ground) -> None:
        values = (PAYER, PAYEE, 30, 0, FOREVER, nonce(16))
        data = encode_call(RECEIVE, *values, *ground.sign(PAYER_KEY, "TransferWithAuthorization", *values))
        ground.refused(data, "invalid signature", PAYEE_KEY, PAYEE)

    def test_a_cancelled_one_is_worth_nothing(self, ground: Ground) -> None:
        paid = ground.pay(nonce(17))
        signature = ground.sign(PAYER_KEY, "CancelAuthorization", PAYER, nonce(17))
        receipt = ground.send(encode_call(CANCEL, PAYER, nonce(17), *signature))
        topic = event_topic("AuthorizationCanceled(address,bytes32)")
        assert [log["topics"] for log in receipt["logs"]] == [[topic, word(PAYER), "0x" + nonce(17).hex()]]
        assert ground.used(nonce(17))
        ground.refused(paid, "authorization is used")

    def test_a_used_one_cannot_be_cancelled(self, ground: Ground) -> None:
        ground.send(ground.pay(nonce(18)))
        signature = ground.sign(PAYER_KEY, "CancelAuthorization", PAYER, nonce(18))
        ground.refused(encode_call(CANCEL, PAYER, nonce(18), *signature), "authorization is used")

    def test_a_stranger_cannot_cancel(self, ground: Ground) -> None:
        signature = ground.sign(STRANGER_KEY, "CancelAuthorization", PAYER, nonce(19))
        ground.refused(encode_call(CANCEL, PAYER, nonce(19), *signature), "invalid signature")
        assert not ground.used(nonce(19))

    def test_only_the_minter_mints(self, ground: Ground) -> None:
        data = encode_call("mint(address,uint256)", STRANGER, 5)
        ground.refused(data, "caller is not", STRANGER_KEY, STRANGER)
        ground.send(data, OWNER_KEY)
        assert ground.balances() == (FUNDS, 0, 0, 5)
        assert ground.rpc.view(ground.token, "uint256", "totalSupply()") == FUNDS + 5
