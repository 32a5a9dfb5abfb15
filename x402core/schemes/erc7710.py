"""``exact`` by redeeming a delegation (ERC-7710; x402.md 2.3): by managers that were allowed, proved by the token's own log.

The delegation manager is a contract the payer names, and the delegator's account is one too.  So only managers on the
operator's list (``Wallets.managers``) are asked at all: such a one holds the account to what its owner signed.  x402 leaves a
context's format to the manager; the MetaMask Delegation Framework's is taken, in its canonical spelling (``evm.delegation``),
so that what was spent is known by what was signed.  The account whose money moves is the root's delegator: the payload's has
to be the same.  The account may still be one that does nothing when it is called, so the simulation asks the token whether the
payee got the money; and what counts in the end is the token's own log, in a transaction of ours.

A delegation binds neither payee nor amount, unless a caveat does, and its delegate is whoever settles: so one buys one answer,
whoever brings it.  A context can be redeemed by whomever it names, for anything it permits, so that a transfer in somebody
else's transaction proves nothing, and there is nothing to look for on the chain once ours has failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, NoReturn

from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError
from x402core.events import Erc7710Permit, Method, Offer
from x402core.evm import abi, delegation
from x402core.evm.digests import EXACT_PROXY, PERMIT2, UPTO_PROXY
from x402core.reads import BalanceOf, CodeAt, Facts, Read, Simulate, SimulatePayment, TxReceipt
from x402core.values import Address, Hash32, Seconds

from .eip3009 import AUTHORIZATION_USED
from .scheme import EXPIRY_MARGIN, Call, Closing, moved, same_asset
from .wallets import SignedBy, Wallets

__all__ = ["Erc7710"]

_REDEEM: Final = "redeemDelegations(bytes[],bytes32[],bytes[])"
_ONE_CALL: Final = bytes(32)  # ERC-7579: a single call, all of it undone when it fails
_GAS: Final = 600_000  # a delegation's caveats are contracts of their own; what needs more is refused by the simulation
_RESERVED: Final = 0x10000  # precompiles (EIP-1352): they answer without being contracts
_NOBODY: Final = Address("0x" + "f" * 40)  # stands in, in a simulation, for a settling account that is not known


class Erc7710:
    """ERC-7710 delegations on EVM chains."""

    scheme: ClassVar[str] = "exact"
    method: ClassVar[Method] = Method.ERC7710
    namespace: ClassVar[str] = "eip155"
    expired: ClassVar[Reason] = Reason.VALID_BEFORE

    def digest(self, permit: Erc7710Permit, offer: Offer) -> NoReturn:
        """Refuse: a wallet makes delegations, each manager in its own way.  Raises: LocalProtocolError."""
        raise LocalProtocolError("a delegation is made by a wallet, not signed here", field="permit")

    def typed_data(self, permit: Erc7710Permit, offer: Offer) -> Mapping[str, object]:
        """Refuse, as :meth:`digest`.  Raises: LocalProtocolError."""
        self.digest(permit, offer)

    def needs(self, offer: Offer, payer: Address) -> tuple[Read[Any], ...]:
        """Need nothing: nothing is prepared."""
        return ()

    def prepare(
        self, offer: Offer, payer: Address, *, now: Seconds, validity: Seconds, nonce: Hash32, facts: Facts | None
    ) -> NoReturn:
        """Refuse, as :meth:`digest`.  Raises: LocalProtocolError."""
        raise LocalProtocolError("a delegation is made by a wallet, not prepared here", field="offer")

    def check(self, permit: Erc7710Permit, offer: Offer, wallets: Wallets) -> SignedBy | Refusal:
        """Refuse a wrong chain, token, payee or amount, a manager that was not allowed, and what is no chain of delegations."""
        if (wrong := same_asset(permit.network, permit.asset, offer)) is not None:
            return wrong
        if permit.pay_to != offer.pay_to:
            return Refusal(Reason.RECIPIENT_MISMATCH, "the delegation is to be redeemed for another payee than the offer's")
        if permit.amount != offer.amount or permit.amount <= 0:
            return Refusal(Reason.VALUE_MISMATCH, f"{permit.amount} is to be redeemed, the offer asks {offer.amount}")
        if not permit.context or permit.until <= 0:
            return Refusal(Reason.INVALID_PAYLOAD, "no permission context, or no time to redeem it in")
        if not wallets.contracts:
            return Refusal(Reason.SIGNATURE, "only keys may pay here, not contracts")
        if permit.manager in (permit.asset, PERMIT2, EXACT_PROXY, UPTO_PROXY) or int(permit.manager, 16) < _RESERVED:
            return Refusal(Reason.INVALID_PAYLOAD, "delegationManager is not a delegation manager")
        if permit.manager not in wallets.managers:
            return Refusal(Reason.INVALID_PAYLOAD, f"the delegation manager {permit.manager} is not allowed here")
        return self._delegated(permit) or SignedBy.CONTRACT

    def _delegated(self, permit: Erc7710Permit) -> Refusal | None:
        """Refuse a context in another spelling than the canonical one, a broken chain, and somebody else's money."""
        try:
            found = delegation.decode(permit.context)
        except RemoteProtocolError as error:
            return Refusal(Reason.INVALID_PAYLOAD, f"payload.permissionContext: {error.text}")
        if broken := delegation.broken_link(found):
            return Refusal(Reason.INVALID_PAYLOAD, f"payload.permissionContext: {broken}")
        if found[-1].delegator != permit.payer:
            return Refusal(Reason.INVALID_PAYLOAD, "payload.delegator is not who delegates in payload.permissionContext")
        return None

    def window(self, permit: Erc7710Permit, offer: Offer, now: Seconds) -> Refusal | None:
        """Refuse a delegation that we would not go on redeeming for long enough; it has no window of its own."""
        if permit.until < now + EXPIRY_MARGIN:
            return Refusal(Reason.VALID_BEFORE, f"less than {EXPIRY_MARGIN} seconds are left to redeem the delegation in")
        return None

    def plan(self, permit: Erc7710Permit, offer: Offer, by: SignedBy) -> tuple[Read[Any], ...]:
        """Simulate the redemption as the account that will send it: with the gas it will have, and with what it brings."""
        (call,) = self.calls(permit, offer)
        return (
            CodeAt(permit.asset),
            CodeAt(permit.manager),
            BalanceOf(permit.asset, permit.payer),
            Simulate(call.to, call.data, offer.facilitator, call.gas),
            SimulatePayment(call.to, call.data, offer.facilitator or _NOBODY, permit.asset, permit.pay_to, permit.amount),
        )

    def judge(
        self, permit: Erc7710Permit, offer: Offer, by: SignedBy, facts: Facts, reads: tuple[Read[Any], ...]
    ) -> Refusal | None:
        """Refuse what is no contract, a poor delegator, a redemption that fails, and one that pays nothing."""
        asset, manager, balance, simulated, paid = (facts.of(read) for read in reads)
        if not asset:
            return Refusal(Reason.NOT_A_CONTRACT, "the asset's address has no code")
        if not manager:
            return Refusal(Reason.INVALID_PAYLOAD, "delegationManager has no code")
        if balance < permit.amount:
            return Refusal(Reason.INSUFFICIENT_FUNDS, "the delegator's balance is below the amount")
        if not simulated.ok:
            return Refusal(Reason.SIMULATION_FAILED, "the delegation manager refuses this redemption")
        if not paid.ok:
            return Refusal(Reason.SIMULATION_FAILED, "this redemption does not bring the payee the amount")
        return None

    def calls(self, permit: Erc7710Permit, offer: Offer) -> tuple[Call, ...]:
        """Return the redemption: one ERC-7579 call, packed as target, value (none) and calldata."""
        transfer = abi.encode_call("transfer(address,uint256)", permit.pay_to, permit.amount)
        execution = bytes.fromhex(permit.asset[2:]) + bytes(32) + transfer
        data = abi.encode_call(_REDEEM, [permit.context], [_ONE_CALL], [execution])
        return (Call(permit.manager, data, _GAS),)

    def preludes(self, permit: Erc7710Permit) -> tuple[bytes, ...]:
        """Need nobody else's transactions."""
        return ()

    def paid(self, permit: Erc7710Permit, offer: Offer, receipt: TxReceipt) -> bool:
        """Demand exactly this transfer in our own transaction, made for this delegation and not by another payment.

        A manager may do anything, even submit an EIP-3009 authorization the same payer gave us for something else; that
        payment is proved by the same transfer, which must not be counted twice.  (Permit2's is proved by calldata alone.)
        """
        logs = [log for log in receipt.logs if log.address == permit.asset]
        authorized = (False, *[log.topics[:1] == (AUTHORIZATION_USED,) for log in logs])
        pairs = zip(logs, authorized, strict=False)
        return receipt.ok and any(moved(log, offer, permit.payer) and not other for log, other in pairs)

    def closing(self, permit: Erc7710Permit, offer: Offer, since: int) -> tuple[Read[Any], ...]:
        """Ask for the chain's time only."""
        return ()

    def close(
        self, permit: Erc7710Permit, offer: Offer, facts: Facts, mined: TxReceipt | None
    ) -> tuple[Closing, TxReceipt | None]:
        """Give up once our own transaction failed, or time is up: a context is not tried twice, it is public by then."""
        over = mined is not None or facts.time > permit.until
        return (Closing.UNUSED_FINAL if over else Closing.UNUSED_YET), None
