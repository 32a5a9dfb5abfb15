"""The hub: payment methods registered once, permits signed, verified and settled by whoever knows their chain.

Usable alone: no server, no client, no facilitator.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

from x402bind.chain.signers import Signer
from x402bind.clients.purse import Budget, Purse, TokenCache
from x402bind.compat.x402_mock.errors import PaymentMethodError
from x402bind.ledger.contract import Ledger
from x402core.commands import Outcome, OutcomeKind
from x402core.errors import LocalProtocolError
from x402core.events import Dialect
from x402core.policy import PayerPolicy
from x402core.registry import KNOWN, Registry
from x402core.values import local, parse_address, parse_origin

from .bases import AdapterFactory
from .evm import methods
from .evm.adapter import EVMAdapter
from .evm.schemas import EVMPaymentComponent, EVMTransactionConfirmation, EVMVerificationResult
from .registry import PaymentRegistry, component_of
from .unions import get_adapter_type

__all__ = ["AdapterHub", "match_payment_component"]

Component = EVMPaymentComponent | dict[str, Any]


class AdapterHub:
    """Payment methods and the adapters that serve them.

    ``evm_private_key`` (or a signer) may be left out: ``EVM_PRIVATE_KEY`` is looked for when a key is first needed, and
    verifying needs none where every component says ``pay_to`` (A19).  ``rpc_url``, ``ledger`` and ``registry`` are as for
    :class:`~x402bind.compat.x402_mock.adapters.evm.adapter.EVMAdapter`.

    For payers: ``origins`` and ``payees``, when given, are the only ones paid; ``budget`` bounds all payments together.
    """

    def __init__(
        self,
        evm_private_key: str | bytes | Signer | None = None,
        rpc_url: str | None = None,
        request_timeout: float = 60,
        *,
        ledger: str | Ledger = "memory:",
        registry: Registry = KNOWN,
        origins: Iterable[str] | None = None,
        payees: Iterable[str] | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.evm = EVMAdapter(evm_private_key, rpc_url, request_timeout, ledger=ledger, registry=registry)
        self._adapter_factories: dict[str, AdapterFactory] = {"evm": self.evm}
        self._registry = PaymentRegistry()
        self.tokens = TokenCache()
        self.origins = None if origins is None else frozenset(local(parse_origin, each, "origins") for each in origins)
        self.payees = None if payees is None else frozenset(local(parse_address, each, "payees") for each in payees)
        self.budget = budget

    # ----------------------------------------------------------------------------------------------------- registering

    def register_payment_methods(
        self,
        payment_component: Component | str | None = None,
        amount: float | str | Decimal | None = None,
        currency: str | None = None,
        *,
        chain_id: str | None = None,
        client_role: bool = False,
    ) -> None:
        """Register one way to pay or be paid: a component (0.3.0), or chain id, amount and currency (0.1.1).

        Raises: LocalProtocolError, PaymentMethodError or pydantic's ValidationError, naming the field.
        """
        method = payment_component if payment_component is not None else chain_id
        if method is None:
            raise PaymentMethodError("write a component, or chain_id, amount and currency")
        component = component_of(method, amount, currency)
        component.validate_payment()
        self._registry.method_register(self.evm.add(component, client_role=client_role))

    def get_payment_methods(self) -> list[EVMPaymentComponent]:
        """Return what is registered, in order."""
        return self._registry.get_support_list()

    async def initialize(self, client_role: bool = False) -> None:
        """Do nothing: no allowance is given behind anybody's back (B7)."""

    # ---------------------------------------------------------------------------------------------------------- paying

    def purse(self) -> Purse:
        """Return what a client pays from: a cap for each method, the earlier one preferred (A11, A5).

        Raises: LocalProtocolError naming what is missing.
        """
        return Purse(self.evm.signer, self.policy(), self._rpc(), budget=self.budget, tokens=self.tokens)

    def policy(self) -> PayerPolicy:
        """Return what may be paid, in the permit-token flow."""
        caps = tuple(methods.cap_of(each, self.evm.asset(each)) for each in self.get_payment_methods())
        spoken = (Dialect.PERMIT_TOKEN, Dialect.V2, Dialect.V1)
        return PayerPolicy(caps, self.payees, self.origins, dialects=spoken, registry=self.evm.registry)

    def _rpc(self) -> dict[str, str]:
        """Return the nodes there are: paying by ERC-3009 takes none."""
        found: dict[str, str] = {}
        for network in dict.fromkeys(self.evm.asset(each).network for each in self.get_payment_methods()):
            with suppress(LocalProtocolError):
                found |= self.evm.rpc([network])
        return found

    async def signature(self, list_components: Sequence[Component]) -> Any:
        """Return a signed permit for the one of a server's components that our own order and caps choose.

        Against the budget it counts as spent, as nobody tells us what becomes of it.
        Raises: PaymentMethodError (a ValueError) when none fits; RemoteProtocolError for malformed ones.
        """
        offer = methods.chosen(self.policy(), list_components)
        if self.budget is not None:
            if (refusal := self.budget.reserve(offer)) is not None:
                raise PaymentMethodError(refusal.detail)
            self.budget.settle(offer, Outcome(OutcomeKind.UNKNOWN, offer))
        return await self.evm.sign(offer)

    # ------------------------------------------------------------------------------------------------------- being paid

    async def verify_signature(self, permit_payload: Any) -> EVMVerificationResult:
        """Judge a permit by the component that is registered for its token on its chain; nothing is claimed.

        Raises: RemoteProtocolError for what is no permit; PaymentMethodError (a ValueError) when no component fits.
        """
        result: EVMVerificationResult = await self._adapter(permit_payload).verify_signature(permit_payload, None)
        return result

    async def settle(self, permit_payload: Any) -> EVMTransactionConfirmation:
        """Judge a permit again and move its money, once.  Raises: as :meth:`verify_signature`, and RpcError."""
        result: EVMTransactionConfirmation = await self._adapter(permit_payload).settle(permit_payload)
        return result

    def _adapter(self, payload: Any) -> AdapterFactory:
        if isinstance(payload, dict):
            return self.evm
        found = self._adapter_factories.get(get_adapter_type(payload) or "")
        if found is None:
            raise PaymentMethodError("no adapter knows this permit")
        return found

    def secrets(self) -> tuple[str, ...]:
        """Return what must be in no text that leaves: tokens held, nodes' URLs, the key as it was written."""
        return (*(token.value for token in list(self.tokens._tokens.values())), *self.evm.secrets())

    async def aclose(self) -> None:
        """Let connections go."""
        await self.evm.aclose()


def match_payment_component(
    remote_components: Sequence[Component], local_components: Sequence[EVMPaymentComponent]
) -> Component | None:
    """Return the server's component that a payer's components choose, the earlier of the payer's first (A11); None: none.

    Chain and token are compared, and amounts as exact decimals.
    """
    for mine in local_components:
        for theirs in remote_components:
            component = component_of(theirs)
            same = (component.caip2, (component.token or "").lower()) == (mine.caip2, (mine.token or "").lower())
            if same and component.amount <= mine.amount:
                return theirs
    return None
