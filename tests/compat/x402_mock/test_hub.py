"""The hub and the small things around it, by themselves."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.shop import FUNDS
from x402bind.compat.x402_mock.adapters import AdapterHub, EVMPaymentComponent, get_adapter_type
from x402bind.compat.x402_mock.adapters.evm import amount_to_value, constants, value_to_amount
from x402bind.compat.x402_mock.adapters.evm.signatures import build_erc3009_typed_data, sign_erc3009_authorization
from x402bind.compat.x402_mock.engine import exceptions
from x402bind.compat.x402_mock.schemas import ProtocalVersion
from x402bind.compat.x402_mock.servers import create_private_key, generate_token, save_key_to_env, verify_token
from x402bind.compat.x402_mock.utils import setup_logger
from x402core import LocalProtocolError
from x402core.errors import RemoteProtocolError

from .stand import CHAIN, USDC, Sepolia

KEY = "11" * 32
ME, YOU = "0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a", "0x" + "22" * 20


def test_both_generations_register_alike() -> None:
    hubs = [AdapterHub(KEY) for _ in range(4)]
    hubs[0].register_payment_methods("eip155:8453", 0.5, "USDC")
    hubs[1].register_payment_methods(chain_id="eip155:8453", amount=0.5, currency="usdc")
    hubs[2].register_payment_methods({"payment_type": "evm", "caip2": "eip155-8453", "amount": 0.5, "currency": "USDC"})
    hubs[3].register_payment_methods(payment_component=EVMPaymentComponent(chain_id=8453, amount=0.5, currency="USDC"))
    for hub in hubs:
        (component,) = hub.get_payment_methods()
        assert (component.chain_id, component.caip2, component.token_name) == (8453, "eip155:8453", "USD Coin")
        assert (component.pay_to or "").lower() == component.metadata["wallet_address"].lower() == ME
        assert get_adapter_type(component) == "evm"
    with pytest.raises(exceptions.PaymentMethodError):
        AdapterHub(KEY).register_payment_methods("eip155:1")
    with pytest.raises(LocalProtocolError, match="eip155:999999999"):
        AdapterHub(KEY).register_payment_methods("eip155:999999999", 0.5, "USDC")


def test_a_balance_is_read_and_a_stranger_to_the_hub_is_not_judged(chain: Sepolia) -> None:
    payer = chain.payer()
    hub = AdapterHub(KEY, chain.url)
    hub.register_payment_methods(CHAIN, 0.5, "USDC")

    async def read() -> Any:
        found = await hub.evm.get_balance(payer.address)
        with pytest.raises(RemoteProtocolError, match="permit_type"):
            await hub.verify_signature({"permit_type": "Solana"})
        await hub.aclose()
        return found

    assert anyio.run(read) == FUNDS


def test_no_key_is_shown_or_needed_before_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVM_PRIVATE_KEY", raising=False)
    hub = AdapterHub()
    with pytest.raises(LocalProtocolError) as caught:
        hub.register_payment_methods(CHAIN, 0.5, "USDC")
    assert caught.value.field == "evm_private_key"
    with pytest.raises(LocalProtocolError) as caught:
        AdapterHub("not a key").register_payment_methods(CHAIN, 0.5, "USDC")
    assert "not a key" not in str(caught.value)
    monkeypatch.setenv("EVM_PRIVATE_KEY", KEY)
    assert hub.evm.get_wallet_address().lower() == ME
    assert KEY not in repr(vars(AdapterHub(KEY).evm.signer.__class__))


def test_an_authorization_signed_by_itself_is_what_its_typed_data_says() -> None:
    fields = {"token": USDC, "chain_id": 11155111, "authorizer": ME, "recipient": YOU, "value": 5}
    signed = sign_erc3009_authorization(
        private_key=KEY, **fields, valid_after=0, valid_before=9, domain_name="USDC", domain_version="2"
    )
    assert signed.validate_structure()
    typed: Any = build_erc3009_typed_data(signed, domain_name="USDC", domain_version="2")
    assert (typed["primaryType"], typed["message"]["nonce"]) == ("TransferWithAuthorization", signed.nonce)
    with pytest.raises(LocalProtocolError, match="before it begins"):
        sign_erc3009_authorization(
            private_key=KEY, **fields, valid_after=9, valid_before=9, domain_name="USDC", domain_version="2"
        )


def test_amounts_and_chains() -> None:
    assert amount_to_value(amount=0.1, decimals=6) == 100_000
    assert value_to_amount(value=100_000, decimals=6) == 0.1
    for wrong in ("1e-7", "x", float("nan")):
        with pytest.raises(LocalProtocolError, match="atomic"):
            amount_to_value(amount=wrong, decimals=6)
    config = constants.get_chain_config("eip155:137")
    assert config is not None
    assert config.assets["USDC"].name == "USD Coin"
    assert constants.get_rpc_url("eip155:1", "key") == "https://mainnet.infura.io/v3/key"
    assert constants.get_rpc_url(999) is None
    assert not constants.is_chain_supported("eip155:999")
    assert ProtocalVersion.from_string("Version 0.1") is ProtocalVersion.Version0_1


def test_keys_and_tokens_of_ones_own(tmp_path: Path) -> None:
    key = create_private_key(prefix="sk_", length=40)
    assert key.startswith("sk_")
    assert len(key) == 43
    path = tmp_path / ".env"
    path.write_text("OTHER=1\nKEY=old")
    save_key_to_env("KEY", key, str(path))
    assert path.read_text() == f"OTHER=1\nKEY={key}\n"
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(LocalProtocolError):
        save_key_to_env("KEY", "two\nlines", str(path))
    token = generate_token(private_key=key, expires_in=60)
    assert set(verify_token(token=token, private_key=key)) == {"exp", "iat", "nonce"}
    for wrong in ("a.b", ".", "", "é.é", token + "x", token.partition(".")[0]):
        with pytest.raises(exceptions.InvalidTokenError):
            verify_token(token=wrong, private_key=key)
    with pytest.raises(exceptions.TokenExpiredError):
        verify_token(token=generate_token(private_key=key, expires_in=-5), private_key=key)


def test_our_logger_leaves_the_applications_alone(tmp_path: Path) -> None:
    before = list(logging.getLogger().handlers)
    ours = logging.getLogger("x402bind")
    level = ours.level
    for _ in range(2):
        setup_logger("WARNING", log_to_file=True, log_path=str(tmp_path / "logs" / "it.log"))
    assert (len(ours.handlers), logging.getLogger().handlers) == (2, before)
    for handler in list(ours.handlers):
        ours.removeHandler(handler)
        handler.close()
    ours.setLevel(level)
