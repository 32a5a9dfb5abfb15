"""``exact`` and ``upto`` by Uniswap's Permit2 and x402's proxies (x402.md 2.2, 2.4): one signature, one transaction.

Permit2 keeps one bit for each nonce of an owner and logs nothing; the proxy logs ``Settled()`` without saying what.  So no
log names the permit.  A transaction of ours is known by what we signed: it makes one call, this permit's, and if that did
not revert then Permit2 executed this permit and no other.  A stranger's is taken for a proof when it, too, is nothing but
this payment's call to the proxy, or a bundle by Multicall3 that shows it: one in which this call must succeed, or one of
nothing but payments, of which as many were made as look alike.  Else one transfer might be counted for two permits, as of
two in a bundle one may have failed.  What another contract executed is not recognised, but a used nonce with such a transfer
beside it is never called unpaid (``Closing.UNCLEAR``): it stays open, for people to look at.

``upto`` differs in its witness, which names the one account that may settle, and in the call, which says how much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError
from x402core.events import Method, Offer, Permit2Permit, SponsoredApproval, SponsoredPermit
from x402core.evm import abi, digests
from x402core.evm.digests import EXACT_PROXY, PERMIT2, UPTO_PROXY
from x402core.reads import (
    Allowance,
    BalanceOf,
    CodeAt,
    Facts,
    NonceBitmap,
    Read,
    SignatureValid,
    Simulate,
    Traced,
    TransferTrace,
    TxReceipt,
)
from x402core.values import Address, Hash32, Seconds, chain_id

from .multicall import MULTICALL3, Pattern, unfold
from .scheme import UPTO, Call, Closing, moved, window
from .sponsorship import plan_sponsor, refuse_sponsor, refuse_sponsor_late, refuse_unready
from .wallets import SignedBy, Wallets, deployment, plan_signature, refuse_signature, signed_by

__all__ = ["SETTLED", "SETTLED_WITH_PERMIT", "Permit2Exact", "Permit2Upto"]

SETTLED: Final = Hash32("0x97088ec3606cfe8cc112180570d03fcde05f9b8e1bfef8e27784eaf5dd5691b6")
SETTLED_WITH_PERMIT: Final = Hash32("0xde5b89d10fc800c459329c382fabfcad0be0ed7e5328e01fae04e507b09ef5d8")
_TOKEN_PERMIT: Final = "(uint256,uint256,bytes32,bytes32,uint8)"
_PERMIT: Final = "((address,uint256),uint256,uint256)"
_EXACT: Final = f"{_PERMIT},address,(address,uint256),bytes"
_UPTO: Final = f"{_PERMIT},uint256,address,(address,address,uint256),bytes"
_GAS: Final = 300_000  # what official settlers allow; with real USDC the deployed proxy takes 122k, 153k with a token permit
_MOST_TRACED: Final = 32  # what a TransferTrace lists at most: of a full one nobody knows what is older
_Words = tuple[bytes | None, ...]


def _word(value: int | Address) -> bytes:
    return (value if isinstance(value, int) else int(value, 16)).to_bytes(32, "big")


class _Permit2:
    """What both schemes share."""

    method: ClassVar[Method] = Method.PERMIT2
    namespace: ClassVar[str] = "eip155"
    expired: ClassVar[Reason] = Reason.PERMIT2_DEADLINE
    proxy: ClassVar[Address]
    """The contract that a permit must name as its spender."""
    _settle: ClassVar[str]
    """Argument types of the proxy's ``settle``; ``settleWithPermit`` takes the token's permit before them."""
    _free: ClassVar[tuple[int, ...]]
    """The words of ``_head`` that two payments may differ in and yet log the same; word 2 is the nonce."""
    _logs: ClassVar[bool] = True
    """Whether the contract's logs tell its transfers from any other."""

    # ------------------------------------------------------------------------------------------ what differs

    def digest(self, permit: Permit2Permit, offer: Offer) -> bytes:
        """Return the EIP-712 digest of the ``PermitWitnessTransferFrom``."""
        raise NotImplementedError

    def _arguments(self, permit: Permit2Permit, offer: Offer) -> tuple[object, ...]:
        """Return the arguments of ``settle``."""
        raise NotImplementedError

    def _head(self, permit: Permit2Permit, offer: Offer) -> _Words:
        """Return the words that ``settle``'s calldata begins with when it makes this payment; None where any will do."""
        raise NotImplementedError

    def _facilitator(self, permit: Permit2Permit, offer: Offer) -> Refusal | None:
        return None

    def _sender(self, offer: Offer) -> Address | None:
        return None

    # ------------------------------------------------------------------------------------------ the payer's side

    def typed_data(self, permit: Permit2Permit, offer: Offer) -> Mapping[str, object]:
        """Return the typed data a wallet shows."""
        return digests.permit2_typed_data(
            chain_id(permit.network),
            permit.asset,
            permit.amount,
            permit.nonce,
            permit.deadline,
            permit.pay_to,
            permit.valid_after,
            permit.facilitator,
        )

    def needs(self, offer: Offer, payer: Address) -> tuple[Read[Any], ...]:
        """Need the allowance of Permit2: without it the payment takes a sponsorship."""
        return (Allowance(offer.asset, payer, PERMIT2),)

    def prepare(
        self, offer: Offer, payer: Address, *, now: Seconds, validity: Seconds, nonce: Hash32, facts: Facts | None
    ) -> Permit2Permit:
        """Return the unsigned permit, valid at once (``validAfter`` 0, as the official clients do), without a sponsorship."""
        return Permit2Permit(
            network=offer.network,
            asset=offer.asset,
            payer=payer,
            pay_to=offer.pay_to,
            amount=offer.amount,
            spender=self.proxy,
            nonce=int(nonce, 16),
            valid_after=Seconds(0),
            deadline=Seconds(now + validity),
            signature=b"",
        )

    # ------------------------------------------------------------------------------------------ the verdict

    def check(self, permit: Permit2Permit, offer: Offer, wallets: Wallets) -> SignedBy | Refusal:
        """Refuse a wrong chain, spender, payee, facilitator, amount, token, signature or sponsorship, in the official order."""
        if permit.network != offer.network:
            return Refusal(Reason.NETWORK_MISMATCH, f"the permit is for {permit.network}, the offer for {offer.network}")
        if permit.spender != self.proxy:
            return Refusal(Reason.PERMIT2_SPENDER, f"permit2Authorization.spender is not the {offer.scheme} proxy")
        if permit.pay_to != offer.pay_to:
            return Refusal(Reason.PERMIT2_RECIPIENT, "permit2Authorization.witness.to is not the offer's payTo")
        if (wrong := self._facilitator(permit, offer)) is not None:
            return wrong
        if permit.amount != offer.amount:
            asked = f"permit2Authorization.permitted.amount is {permit.amount}, the offer asks {offer.amount}"
            return Refusal(Reason.PERMIT2_AMOUNT, asked)
        if permit.asset != offer.asset:
            return Refusal(Reason.PERMIT2_TOKEN, "permit2Authorization.permitted.token is not the offer's asset")
        by = self._signed_by(permit, offer, wallets)
        if isinstance(by, Refusal):
            return by
        return refuse_sponsor(permit, offer, by) or by

    def _signed_by(self, permit: Permit2Permit, offer: Offer, wallets: Wallets) -> SignedBy | Refusal:
        if deployment(permit.signature) is not None:  # no peer deploys for Permit2 (x402.md 7, 24)
            return Refusal(Reason.UNDEPLOYED_WALLET, "a wallet that is not deployed cannot pay by Permit2")
        try:
            by = signed_by(permit.payer, self.digest(permit, offer), permit.signature, wallets)
        except RemoteProtocolError as error:
            return Refusal(Reason.PERMIT2_SIGNATURE, f"payload.signature: {error.text}")
        return Refusal(Reason.PERMIT2_SIGNATURE, by.detail) if isinstance(by, Refusal) else by

    def window(self, permit: Permit2Permit, offer: Offer, now: Seconds) -> Refusal | None:
        """Refuse a permit outside its window at ``now``, or with a sponsoring permit that ends too soon."""
        early, late = Reason.PERMIT2_NOT_YET, Reason.PERMIT2_DEADLINE
        refusal = window(permit.valid_after, permit.deadline, offer, now, early, late)
        return refusal or refuse_sponsor_late(permit, now)

    def plan(self, permit: Permit2Permit, offer: Offer, by: SignedBy) -> tuple[Read[Any], ...]:
        """Read whatever a settlement depends on, and simulate it as the account that will send it."""
        return (*self._asked(permit, offer), *self._asked_of_wallet(permit, offer, by), *plan_sponsor(permit))

    def _asked(self, permit: Permit2Permit, offer: Offer) -> tuple[Read[Any], ...]:
        (call,) = self.calls(permit, offer)
        return (
            CodeAt(permit.asset),
            CodeAt(permit.spender),
            NonceBitmap(permit.payer, permit.nonce >> 8),
            BalanceOf(permit.asset, permit.payer),
            Allowance(permit.asset, permit.payer, PERMIT2),
            Simulate(call.to, call.data, self._sender(offer), call.gas),
        )

    def _asked_of_wallet(self, permit: Permit2Permit, offer: Offer, by: SignedBy) -> tuple[Read[Any], ...]:
        """List what a contract is asked; with an approval to come even of a key's account, which may have code (EIP-7702).

        Permit2 asks an account with code what it says of its signature, and there a simulation cannot show it beforehand.
        """
        if isinstance(permit.sponsor, SponsoredApproval):
            by = SignedBy.CONTRACT
        return plan_signature(by, permit.payer, self._digest(permit, offer, by), permit.signature)

    def _digest(self, permit: Permit2Permit, offer: Offer, by: SignedBy) -> bytes:
        return b"" if by is SignedBy.KEY else self.digest(permit, offer)

    def judge(
        self, permit: Permit2Permit, offer: Offer, by: SignedBy, facts: Facts, reads: tuple[Read[Any], ...]
    ) -> Refusal | None:
        """Refuse what Permit2, the proxy or the token would refuse, naming the cause as x402.md 2.2's diagnosis does."""
        asset, proxy, bits, balance, allowance, simulated = (facts.of(read) for read in reads[:6])
        if not asset:
            return Refusal(Reason.NOT_A_CONTRACT, "the asset's address has no code")
        if not proxy:
            return Refusal(Reason.PERMIT2_NO_PROXY, f"{permit.spender} has no code on {permit.network}")
        if bits >> (permit.nonce & 0xFF) & 1:
            return Refusal(Reason.NONCE_USED, "this permit's nonce was already used or invalidated")
        if balance < permit.amount:
            return Refusal(Reason.PERMIT2_BALANCE, "the payer's balance is below the amount")
        if (wrong := self._refuse_wallet(permit, offer, by, facts)) is not None:
            return wrong
        if allowance < permit.amount:
            if permit.sponsor is None:
                return Refusal(Reason.PERMIT2_ALLOWANCE, "the payer has not allowed Permit2 to move the token")
            if isinstance(permit.sponsor, SponsoredApproval):
                return refuse_unready(permit, facts)  # the simulation was without it
        if simulated.ok:
            return None
        if allowance < permit.amount:
            return Refusal(Reason.PERMIT2_ALLOWANCE, "the token permit does not allow Permit2 to move the token")
        return Refusal(Reason.PERMIT2_SIMULATION, "the proxy refuses this permit")

    def _refuse_wallet(self, permit: Permit2Permit, offer: Offer, by: SignedBy, facts: Facts) -> Refusal | None:
        if by is SignedBy.KEY and isinstance(permit.sponsor, SponsoredApproval):
            code, valid = CodeAt(permit.payer), SignatureValid(permit.payer, self.digest(permit, offer), permit.signature)
            fine = not facts.of(code) or facts.of(valid)
            return None if fine else Refusal(Reason.PERMIT2_SIGNATURE, "the payer's contract does not know this signature")
        wrong = refuse_signature(by, permit.payer, self._digest(permit, offer, by), permit.signature, facts)
        return None if wrong is None else Refusal(Reason.PERMIT2_SIGNATURE, wrong.detail)

    # ------------------------------------------------------------------------------------------ the settlement

    def calls(self, permit: Permit2Permit, offer: Offer) -> tuple[Call, ...]:
        """Return the one call to the proxy."""
        arguments = self._arguments(permit, offer)
        if isinstance(permit.sponsor, SponsoredPermit):
            signature = permit.sponsor.signature
            allow = (permit.sponsor.amount, permit.sponsor.deadline, signature[:32], signature[32:64], signature[64])
            data = abi.encode_call(f"settleWithPermit({_TOKEN_PERMIT},{self._settle})", allow, *arguments)
        else:
            data = abi.encode_call(f"settle({self._settle})", *arguments)
        return (Call(self.proxy, data, _GAS),)

    def preludes(self, permit: Permit2Permit) -> tuple[bytes, ...]:
        """Return the payer's approval, where it brings one."""
        return (permit.sponsor.raw,) if isinstance(permit.sponsor, SponsoredApproval) else ()

    def paid(self, permit: Permit2Permit, offer: Offer, receipt: TxReceipt) -> bool:
        """Demand, in one successful transaction, exactly this transfer and, after it, the proxy's word that it settled.

        Meant for a transaction known to be this permit's call: no log names it.  Not "right after", as some tokens log a new
        allowance after a transfer; but since the proxy's last word, so that no settlement of another payment is counted.
        """
        return receipt.ok and self._times(permit, offer, receipt) > 0

    def _times(self, permit: Permit2Permit, offer: Offer, receipt: TxReceipt) -> int:
        times, transferred = 0, False
        for log in receipt.logs:
            if log.address == self.proxy and log.topics in ((SETTLED,), (SETTLED_WITH_PERMIT,)):
                times, transferred = times + transferred, False
            else:
                transferred = transferred or moved(log, offer, permit.payer)
        return times

    def closing(self, permit: Permit2Permit, offer: Offer, since: int) -> tuple[Read[Any], ...]:
        """Ask Permit2 whether the nonce is used, and for the transactions that may have used it for this payment."""
        return (
            NonceBitmap(permit.payer, permit.nonce >> 8),
            TransferTrace(permit.asset, permit.payer, permit.pay_to, since),
            BalanceOf(permit.asset, permit.payer),
            Allowance(permit.asset, permit.payer, PERMIT2),
        )

    def close(
        self, permit: Permit2Permit, offer: Offer, facts: Facts, mined: TxReceipt | None
    ) -> tuple[Closing, TxReceipt | None]:
        """Take a used nonce for paid only with the transaction that did it; without one, wait for the deadline, then give up.

        Not while one may have done it, or may be hidden behind newer ones.  A nonce that was invalidated, or spent on something
        else, pays nobody here.  Where our own transaction failed, another is sent only if the payer has what it lacked.
        """
        bits = facts.of(NonceBitmap(permit.payer, permit.nonce >> 8))
        dead = facts.time > permit.deadline
        if bits >> (permit.nonce & 0xFF) & 1:
            traces = next(value for read, value in facts.answers.items() if isinstance(read, TransferTrace))
            assert isinstance(traces, tuple)
            told = [self._tell(permit, offer, traced) for traced in traces]
            if Closing.USED in told:
                return Closing.USED, traces[told.index(Closing.USED)].receipt
            if Closing.UNCLEAR in told or len(traces) >= _MOST_TRACED:
                return Closing.UNCLEAR, None
        elif mined is not None and not dead and self._could_pay(permit, offer, facts):
            return Closing.UNUSED_RETRY, None
        return (Closing.UNUSED_FINAL if dead else Closing.UNUSED_YET), None

    def _could_pay(self, permit: Permit2Permit, offer: Offer, facts: Facts) -> bool:
        allowed = facts.of(Allowance(permit.asset, permit.payer, PERMIT2)) >= offer.amount
        sponsored = isinstance(permit.sponsor, SponsoredPermit)
        return facts.of(BalanceOf(permit.asset, permit.payer)) >= offer.amount and (allowed or sponsored)

    def _tell(self, permit: Permit2Permit, offer: Offer, traced: Traced) -> Closing | None:
        """Say whether a transaction executed this payment (USED), may have (UNCLEAR), or has not (None)."""
        if not self.paid(permit, offer, traced.receipt):
            return None
        if self._executes(permit, offer, traced):
            return Closing.USED
        if not self._logs or traced.to in (permit.asset, PERMIT2, EXACT_PROXY, UPTO_PROXY):  # which do one thing each
            return None
        bundle, pattern = unfold(traced) or (), self._pattern(permit, offer)
        ours = [call.must for call in bundle if call.to == self.proxy and pattern.fits(call.data)]
        only = bool(bundle) and all(call.to == self.proxy for call in bundle)
        if only and not ours:
            return None
        known = any(ours) or (only and self._times(permit, offer, traced.receipt) == pattern.alike(bundle))
        return Closing.USED if known and self._sender(offer) in (None, MULTICALL3) else Closing.UNCLEAR  # who may call upto's

    def _executes(self, permit: Permit2Permit, offer: Offer, traced: Traced) -> bool:
        """Say whether a transaction is this settlement and nothing else; two permits of one nonce and payee are one payment."""
        return traced.to == self.proxy and self._pattern(permit, offer).fits(traced.data)

    def _pattern(self, permit: Permit2Permit, offer: Offer) -> Pattern:
        functions = {f"settle({self._settle})": 0, f"settleWithPermit({_TOKEN_PERMIT},{self._settle})": 5}
        return Pattern(functions, self._head(permit, offer), self._free)


class Permit2Exact(_Permit2):
    """``exact`` by Permit2 on EVM chains: anyone may submit it."""

    scheme: ClassVar[str] = "exact"
    proxy: ClassVar[Address] = EXACT_PROXY
    _settle: ClassVar[str] = _EXACT
    _free: ClassVar[tuple[int, ...]] = (2,)

    def digest(self, permit: Permit2Permit, offer: Offer) -> bytes:
        """Return the EIP-712 digest of the ``PermitWitnessTransferFrom``."""
        domain = digests.permit2_domain(chain_id(permit.network))
        return digests.permit2_exact_digest(
            domain, permit.asset, permit.amount, permit.nonce, permit.deadline, permit.pay_to, permit.valid_after
        )

    def _arguments(self, permit: Permit2Permit, offer: Offer) -> tuple[object, ...]:
        allowed = ((permit.asset, permit.amount), permit.nonce, permit.deadline)
        return allowed, permit.payer, (permit.pay_to, permit.valid_after), permit.signature

    def _head(self, permit: Permit2Permit, offer: Offer) -> _Words:
        numbers = (_word(permit.amount), _word(permit.nonce), None)
        return (_word(permit.asset), *numbers, _word(permit.payer), _word(permit.pay_to), None)


class Permit2Upto(_Permit2):
    """``upto`` by Permit2 on EVM chains: the permit is a ceiling, and only the facilitator it names may submit it."""

    scheme: ClassVar[str] = UPTO
    proxy: ClassVar[Address] = UPTO_PROXY
    _settle: ClassVar[str] = _UPTO
    _free: ClassVar[tuple[int, ...]] = (1, 2, 7)  # nor does a log say the ceiling, or who settled

    def digest(self, permit: Permit2Permit, offer: Offer) -> bytes:
        """Return the EIP-712 digest of the ``PermitWitnessTransferFrom``, whose witness names the facilitator."""
        domain = digests.permit2_domain(chain_id(permit.network))
        return digests.permit2_upto_digest(
            domain,
            permit.asset,
            permit.amount,
            permit.nonce,
            permit.deadline,
            permit.pay_to,
            _named(permit.facilitator),
            permit.valid_after,
        )

    def prepare(
        self, offer: Offer, payer: Address, *, now: Seconds, validity: Seconds, nonce: Hash32, facts: Facts | None
    ) -> Permit2Permit:
        """Return the unsigned permit for the offer's facilitator.  Raises: LocalProtocolError when it names none."""
        permit = super().prepare(offer, payer, now=now, validity=validity, nonce=nonce, facts=facts)
        return replace(permit, facilitator=_named(offer.facilitator))

    def _facilitator(self, permit: Permit2Permit, offer: Offer) -> Refusal | None:
        if permit.facilitator is None or permit.facilitator != offer.facilitator:
            return Refusal(Reason.UPTO_FACILITATOR, "permit2Authorization.witness.facilitator does not settle here")
        return None

    def _sender(self, offer: Offer) -> Address | None:
        return offer.facilitator

    def _arguments(self, permit: Permit2Permit, offer: Offer) -> tuple[object, ...]:
        allowed = ((permit.asset, permit.amount), permit.nonce, permit.deadline)
        witness = (permit.pay_to, _named(permit.facilitator), permit.valid_after)
        return allowed, offer.amount, permit.payer, witness, permit.signature

    def _head(self, permit: Permit2Permit, offer: Offer) -> _Words:
        numbers = (_word(permit.amount), _word(permit.nonce), None, _word(offer.amount))
        witness = (_word(permit.pay_to), _word(_named(permit.facilitator)), None)
        return (_word(permit.asset), *numbers, _word(permit.payer), *witness)


def _named(facilitator: Address | None) -> Address:
    if facilitator is None:
        raise LocalProtocolError("upto needs the account that will settle", field="facilitator")
    return facilitator
