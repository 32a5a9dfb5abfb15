"""The golden vectors V1 to V9 of x402.md section 6, every value of each.

V1 to V4 (the payment methods) and V7 to V9 (offers and receipts, builder codes, extension responses) go through the modules
that ship.  The schemes of V5 (batch-settlement) and V6 (auth-capture) do not ship: their types are written here, and the
vectors hold our general EIP-712 hasher and ABI encoder to what those schemes' users would feed them.
"""

from __future__ import annotations

from typing import Final

from tests.evm.vectors import ACCOUNT1, CHAIN, KEY, PAY_TO, PAYER, USDC
from x402core.evm import digests, eip712
from x402core.evm.abi import encode
from x402core.evm.keccak import keccak
from x402core.evm.secp256k1 import public_address, recover, sign
from x402core.values import Address, Hash32, Seconds
from x402core.wire import builder_code, extensions, offer_receipt
from x402core.wire.builder_code import Codes
from x402core.wire.offer_receipt import OfferPayload, ReceiptPayload

CHECKED_PAY_TO: Final = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
WITNESS_TO: Final = Address("0x9876543210987654321098765432109876543210")
ZERO: Final = Address("0x" + "00" * 20)
FOREVER: Final = 9999999999
BATCH: Final = Address("0x4020074e9df2ce1dee5a9c1b5c3f541d02a10003")
DEPOSIT_COLLECTOR: Final = Address("0x4020425faf3b746c082c2f942b4e5159887b0005")
ESCROW: Final = Address("0xf96815976523e00e65be8f34ca5e64b4f41eb19c")


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


def members(listed: str) -> list[dict[str, str]]:
    pairs = [member.split(" ") for member in listed.split(",")]
    return [{"name": name, "type": kind} for kind, name in pairs]


def test_the_key_is_the_payers() -> None:
    assert public_address(KEY) == PAYER == Address("0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266")


# --- V1 to V4: the payment methods -----------------------------------------------------------------------------------


def test_v1_a_transfer_authorization() -> None:
    separator = digests.domain("USDC", "2", CHAIN, USDC)
    assert hexed(separator) == "0x71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818"
    values = (PAYER, PAY_TO, 10000, 0, 1893456000, Hash32("0x" + "11" * 32))
    readable = digests.transfer_authorization_typed_data("USDC", "2", CHAIN, USDC, *values)
    struct = eip712.hash_struct(readable["types"], readable["primaryType"], readable["message"])
    assert hexed(struct) == "0xfa819126cb9cb34a71653180eeb49df7d2a03617f892c7616ef927b7b74eee62"
    digest = digests.transfer_authorization_digest(separator, *values)
    assert hexed(digest) == "0xe0dfe24d878b305003494ca1f3bb1bd9572485a3bd6eaafb8b28664d0f1cd61c"
    assert digest == keccak(b"\x19\x01" + separator + struct)
    signature = sign(digest, KEY)
    assert hexed(signature) == (
        "0x697475f4bb41b7ff040d0092186d2cc068889296133bae2d51088a1e880389c7"
        "06f988132efd2b016da5194537fe314f4005c006ecb7b94b0f0f4ee967dff9511b"
    )
    assert recover(digest, signature) == PAYER


def test_v2_permit2_exact() -> None:
    separator = digests.permit2_domain(CHAIN)
    assert hexed(separator) == "0x010f27a92fb9a32622f44f001dc4d15706a85b33499cfc2ce9033113ab26592c"
    digest = digests.permit2_exact_digest(separator, USDC, 1000000, 1, FOREVER, WITNESS_TO, 0)
    assert hexed(digest) == "0x93f7d7cc192fe78957fc114318393187c2fc5194c6d9ac26aba364559fac39d2"
    assert hexed(sign(digest, KEY)) == (
        "0x71d701457d5c4c4ccb48ce0cbf1ff80dd2237c2e7a04272043b99e1c667e370d"
        "096fec3610f7c96c264294e25eff53a99eb8fd7ed25621b65e23e79a1c41abf51c"
    )


def test_v3_permit2_upto() -> None:
    digest = digests.permit2_upto_digest(digests.permit2_domain(CHAIN), USDC, 1000000, 1, FOREVER, WITNESS_TO, ACCOUNT1, 0)
    assert hexed(digest) == "0x7c87cf35334247920b95351ab60b41616bb95515fbfb2022cd6eb978cde64639"
    assert hexed(sign(digest, KEY)) == (
        "0x791afe6783abbfa6771354c4d19a9a79c3e5510687668ee2e8445c03e985e140"
        "3d2c0b0729ec1211abe6940d0d692f6afdad8d9a2897c487a45ec099532d48831b"
    )


def test_v4_eip2612() -> None:
    digest = digests.permit_digest(digests.domain("USDC", "2", CHAIN, USDC), PAYER, digests.PERMIT2, 1000000, 0, FOREVER)
    assert hexed(digest) == "0xeafd858250cf22f06121565882df75e2c7ddfe8de895b0e9a550c3aa7bae72ce"


# --- V5: batch-settlement --------------------------------------------------------------------------------------------

BATCH_DOMAIN: Final = {"name": "x402 Batch Settlement", "version": "1", "chainId": CHAIN, "verifyingContract": BATCH}
BATCH_TYPES: Final = {
    "ChannelConfig": members(
        "address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,"
        "uint40 withdrawDelay,bytes32 salt"
    ),
    "Voucher": members("bytes32 channelId,uint128 maxClaimableAmount"),
    "Refund": members("bytes32 channelId,uint256 nonce,uint128 amount"),
    "ClaimEntry": members("bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed"),
    "ClaimBatch": members("ClaimEntry[] claims"),
}
CHANNEL: Final = "0x75cae6224fe626f13d8190cf4d95e1ab9b0aa1ab958a5d8e23ba1ebc7f0faf34"


def batch(primary: str, message: dict[str, object]) -> str:
    return hexed(eip712.typed_data_digest(BATCH_TYPES, primary, BATCH_DOMAIN, message))


def test_v5_a_channel_and_what_is_signed_over_it() -> None:
    separator = eip712.domain_separator(BATCH_DOMAIN)
    assert hexed(separator) == "0xfdef80764086b1e0fc6ba99f0cb9aa1d59109fda7c23d60334c89d2de44dffce"
    config: dict[str, object] = {"payer": PAYER, "payerAuthorizer": PAYER, "receiver": PAY_TO, "receiverAuthorizer": ACCOUNT1}
    config |= {"token": USDC, "withdrawDelay": 900, "salt": bytes(32)}
    assert batch("ChannelConfig", config) == CHANNEL
    assert batch("Voucher", {"channelId": CHANNEL, "maxClaimableAmount": 1000}) == (
        "0x315233248282b2ced867b56b38fb057441cc9e113befc33f935c43d1ff67bdd1"
    )
    assert batch("Refund", {"channelId": CHANNEL, "nonce": 0, "amount": 500}) == (
        "0xbeff9fb1a02c4b2cb2638c26469932458679581c33a67069614a5db51a740157"
    )
    claim = {"channelId": CHANNEL, "maxClaimableAmount": 1000, "totalClaimed": 800}
    assert batch("ClaimBatch", {"claims": [claim]}) == "0x12f32800bd04dfcf5b7afd5d23ab648a3230e6c7a824f58ef77dbdb27f456ab5"


def test_v5_deposits_into_a_channel() -> None:
    nonce = keccak(encode(("bytes32", "uint256"), (bytes.fromhex(CHANNEL[2:]), 1)))
    assert hexed(nonce) == "0xec599efca1ad5590516b59f13b33c01ebdf8d8aa3abca44d08177ef88d161b3c"
    types = {
        "PermitWitnessTransferFrom": members(
            "TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,DepositWitness witness"
        ),
        "TokenPermissions": members("address token,uint256 amount"),
        "DepositWitness": members("bytes32 channelId"),
    }
    type_hash = "0x436a25c01a21a6ed025816c4c9ea3d6132aa879dd7ef16f6188dd3b0aebccc52"
    assert hexed(eip712.type_hash(types, "PermitWitnessTransferFrom")) == type_hash
    permit2 = {"name": "Permit2", "chainId": CHAIN, "verifyingContract": digests.PERMIT2}
    deposit: dict[str, object] = {"permitted": {"token": USDC, "amount": 10000}, "spender": DEPOSIT_COLLECTOR, "nonce": 1}
    deposit |= {"deadline": FOREVER, "witness": {"channelId": CHANNEL}}
    assert hexed(eip712.typed_data_digest(types, "PermitWitnessTransferFrom", permit2, deposit)) == (
        "0xecbd13f47a1235a4e676c37e9c081f5c207981243ac7f08f8040435d479744c6"
    )


# --- V6: auth-capture ------------------------------------------------------------------------------------------------

PAYMENT_INFO: Final = {
    "PaymentInfo": members(
        "address operator,address payer,address receiver,address token,uint120 maxAmount,uint48 preApprovalExpiry,"
        "uint48 authorizationExpiry,uint48 refundExpiry,uint16 minFeeBps,uint16 maxFeeBps,address feeReceiver,uint256 salt"
    )
}


def payment_info_hash(payer: Address, salt: int) -> str:
    info: dict[str, object] = {"operator": ACCOUNT1, "payer": payer, "receiver": PAY_TO, "token": USDC, "maxAmount": 1000000}
    info |= {"preApprovalExpiry": 1740675754, "authorizationExpiry": 1740758554, "refundExpiry": 1741276954}
    info |= {"minFeeBps": 0, "maxFeeBps": 0, "feeReceiver": ZERO, "salt": salt}
    struct = eip712.hash_struct(PAYMENT_INFO, "PaymentInfo", info)
    return hexed(keccak(encode(("uint256", "address", "bytes32"), (CHAIN, ESCROW, struct))))


def test_v6_an_authorization_and_its_nonce() -> None:
    type_hash = "0xae68ac7ce30c86ece8196b61a7c486d8f0061f575037fbd34e7fe4e2820c6591"
    assert hexed(eip712.type_hash(PAYMENT_INFO, "PaymentInfo")) == type_hash
    assert payment_info_hash(ZERO, 0xABC) == "0x91f334978dfb63bf9616fdafffd0eaa1b480e1ebdf97c13593dda2a27e5b5a11"
    assert payment_info_hash(PAYER, 0xABC) == "0x73f03e89968766da49ca9c63904880bf98c4fd554daabd66d5f2d1a22092e477"


def test_v6_a_salt_bound_to_who_may_capture() -> None:
    binding = keccak(b"x402AuthCaptureSaltBinding(address receiverAuthorizer,address policy,uint256 saltNonce)")
    assert hexed(binding) == "0x8a2a7e41a0bda000ded071ff38b79401d2603e1826516ff2635b11fe9e30877f"
    salt = keccak(encode(("bytes32", "address", "address", "uint256"), (binding, ACCOUNT1, ZERO, 0xABC)))
    assert hexed(salt) == "0xfa1a570975f2cb697082641e2641245d6eec468d61912280b2387e648a1c29a1"
    assert payment_info_hash(ZERO, int.from_bytes(salt, "big")) == (
        "0xb02efb25c2b6c97a448f7fe8a68ce181d3734c2135761bfb8b8ebec08f2d0b35"
    )


# --- V7 to V9: the extensions ----------------------------------------------------------------------------------------


def test_v7_an_offer() -> None:
    payload = OfferPayload(
        resource_url="https://api.example.com/premium-data",
        scheme="exact",
        network="eip155:8453",
        asset="0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
        pay_to=CHECKED_PAY_TO,
        amount="10000",
        valid_until=Seconds(1703123516),
    )
    readable = offer_receipt.offer_typed_data(payload)
    type_hash = "0x85143d3249b5e62ed5edd3d59a352d4e1181c775ff4f762f9c8a617f6bf1e97d"
    assert hexed(eip712.type_hash(readable["types"], "Offer")) == type_hash
    separator = "0x5dc92544087ab60aa57c539b9543f9282416b0dcf2c2ae0d4d0051052a9e61b6"
    assert hexed(eip712.domain_separator(readable["domain"])) == separator
    digest = offer_receipt.offer_digest(payload)
    assert hexed(digest) == "0x080c2947f96376213d3de762c32b1f56ba5869acdeb87c7a44b7be5d33d397ea"


def test_v7_a_receipt() -> None:
    payload = ReceiptPayload(
        network="eip155:8453",
        resource_url="https://api.example.com/premium-data",
        payer="0x857b06519E91e3A54538791bDbb0E22373e36b66",
        issued_at=Seconds(1703123456),
    )
    readable = offer_receipt.receipt_typed_data(payload)
    type_hash = "0x616944bc4bb51b3d5fcbba8c559f76d57a93ac1e0d6659f1abbe95f92300c06f"
    assert hexed(eip712.type_hash(readable["types"], "Receipt")) == type_hash
    separator = "0xfd7f8c81cdd24b25c99ba22e191cee41d8809abbc12e8fdbd42fddfa5bb9e406"
    assert hexed(eip712.domain_separator(readable["domain"])) == separator
    digest = offer_receipt.receipt_digest(payload)
    assert hexed(digest) == "0x060dbcfb87035bac821d6baa07fdab2ec109e6f06deaa00e037c2c1f4fbe6f8b"


def test_v8_builder_codes_behind_calldata() -> None:
    one = Codes(app="bc_myapp")
    written = "0xa161616862635f6d79617070000c0280218021802180218021802180218021"
    assert hexed(builder_code.suffix(one)) == written
    assert builder_code.parse_suffix(bytes.fromhex(written[2:])) == one
    three = Codes("bc_myapp", "bc_myfacilitator", ("my_client",))
    written = (
        "0xa361616862635f6d7961707061777062635f6d79666163696c697461746f72617381696d795f636c69656e74"
        "002c0280218021802180218021802180218021"
    )
    assert hexed(builder_code.suffix(three)) == written
    assert builder_code.parse_suffix(b"\xa9\x05\x9c\xbb" + bytes.fromhex(written[2:])) == three


def test_v9_extension_responses() -> None:
    document = {"bazaar": {"status": "success"}}
    assert extensions.encode_responses(document) == "eyJiYXphYXIiOnsic3RhdHVzIjoic3VjY2VzcyJ9fQ=="
    assert extensions.decode_responses("eyJiYXphYXIiOnsic3RhdHVzIjoic3VjY2VzcyJ9fQ==") == document
