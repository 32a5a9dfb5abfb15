"""The registry: the tables are right, merging keeps its laws, and nothing unknown is guessed."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import timeit
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from Crypto.Hash import keccak
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from x402core import registry as registry_module
from x402core.errors import LocalProtocolError
from x402core.registry import KNOWN, Asset, NetworkInfo, Registry
from x402core.values import Address, Network, chain_id

BASE = Network("eip155:8453")
LOCAL = Network("eip155:31337")
CUSTOM = Network("eip155:424242")


def keccak256(data: bytes) -> bytes:
    return keccak.new(digest_bits=256, data=data).digest()


def token(**changes: Any) -> Asset:
    fields: dict[str, Any] = {
        "network": CUSTOM,
        "address": "0x" + "ab" * 20,
        "code": "play",
        "symbol": "",
        "name": "Play Money",
        "version": "1",
        "decimals": 18,
        "methods": ("permit2",),
    }
    return Asset(**{**fields, **changes})


# --- the tables ---


def checksum(address: str) -> str:
    digest = keccak256(address[2:].lower().encode()).hex()
    letters = (c.upper() if int(digest[i], 16) >= 8 else c for i, c in enumerate(address[2:].lower()))
    return "0x" + "".join(letters)


@pytest.mark.parametrize("row", registry_module._ASSETS, ids=lambda row: f"{row[0]}-{row[2]}")
def test_every_address_was_copied_without_a_slip(row: tuple[Any, ...]) -> None:
    address = row[1]
    if address != address.lower():  # one of seeds.md 2.1 comes without a checksum
        assert checksum(address) == address


# DOMAIN_SEPARATOR() as the deployed contracts answer: it hashes name, version, chain id and address at once.
SEPARATORS = [
    ("ethereum", "usdc", "06c37168a7db5138defc7866392bb87a741f9b3d104deb5094588ce041cae335"),
    ("base", "usdc", "02fa7265e7c5d81118673727957699e4d68f74cd74b7db77da710fe8a2c7834f"),
    ("polygon", "usdc", "caa2ce1a5703ccbe253a34eb3166df60a705c561b44b192061e28f2a985be2ca"),
    ("eip155:42161", "usdc", "08d11903f8419e68b1b8721bcbe2e9fc68569122a77ef18c216f10b3b5112c78"),
    ("avalanche", "usdc", "bbea200329a938bc3438984a49cb0732e66d66d7bd59c127abacc1710e77f7b3"),
    ("base-sepolia", "usdc", "71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818"),
    ("sepolia", "usdc", "b90e5057db141a932946e64d09ccb7ffc9b00bd79fec26f698d29af0c83320a6"),
    ("polygon-amoy", "usdc", "5cddc98319864e897e4469bd1d13c2288c677047b54b8cca12bd342adb6be9eb"),
    ("eip155:421614", "usdc", "85944e1292d007732838d6eadfa67589b78ffcededbd4df60488d0af251308bb"),
    ("monad", "usdc", "fe22123edc0dd4aeb912eb7948c5f0e531592c2053b3067612f427db342c93c6"),
    ("celo", "usdc", "b2ce31d2838445fa765a491f550e7c78ac7280ab0f3bc9d6063a86df9c3fb578"),
    ("sei", "usdc", "0a19136106ae98d2c245cbbd451f3cb2bbbb1670e1ee191abacb5a5e255c0255"),
    ("base", "eurc", "ec4dcbded0afd42599589b79220899bbe000bb5ea66d6f1bc176e78d094203bb"),
    ("avalanche", "eurc", "094e957ad84a5711a2d13ea2ddcfe3947fe1704472f07bf8a49718f55a65f4b1"),
]


@pytest.mark.parametrize(("network", "code", "separator"), SEPARATORS)
def test_A8_the_domain_is_the_one_the_contract_checks(network: str, code: str, separator: str) -> None:
    asset = KNOWN.by_code(network, code)
    kind = keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
    words = [kind, keccak256(asset.name.encode()), keccak256(asset.version.encode()), chain_id(asset.network), asset.address]
    assert keccak256(encode(["bytes32", "bytes32", "bytes32", "uint256", "address"], words)).hex() == separator


def test_A8_one_name_does_not_fit_all_networks() -> None:
    assert {KNOWN.default(n).name for n in ("ethereum", "base", "polygon", "avalanche")} == {"USD Coin"}
    assert {KNOWN.default(n).name for n in ("sepolia", "base-sepolia", "sei", "polygon-amoy")} == {"USDC"}


def test_A5_decimals_are_ours_not_the_servers() -> None:
    usdc = KNOWN.asset("eip155:8453", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913")
    assert usdc is not None
    assert (usdc.decimals, usdc.methods) == (6, ("eip3009", "eip2612"))
    assert KNOWN.asset("eip155:1", usdc.address) is None  # the same token elsewhere is another token
    assert {KNOWN.default(n).decimals for n in ("megaeth", "mezo", "mezo-testnet")} == {18}


V1_NAMES = {
    "ethereum": 1,
    "sepolia": 11155111,
    "abstract": 2741,
    "abstract-testnet": 11124,
    "base-sepolia": 84532,
    "base": 8453,
    "avalanche-fuji": 43113,
    "avalanche": 43114,
    "iotex": 4689,
    "sei": 1329,
    "sei-testnet": 1328,
    "polygon": 137,
    "polygon-amoy": 80002,
    "peaq": 3338,
    "story": 1514,
    "educhain": 41923,
    "skale-base-sepolia": 324705682,
    "megaeth": 4326,
    "monad": 143,
    "stable": 988,
    "stable-testnet": 2201,
    "celo": 42220,
    "flare": 14,
}


def test_v1_names_go_both_ways() -> None:
    assert KNOWN.chain_ids() == {**V1_NAMES, "local": 31337}
    for name, chain in V1_NAMES.items():
        assert KNOWN.resolve(name) == f"eip155:{chain}"
        assert KNOWN.v1_name(Network(f"eip155:{chain}")) == name
    assert KNOWN.v1_name(KNOWN.resolve("solana")) == "solana"
    assert KNOWN.resolve("solana-devnet") == "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"
    assert KNOWN.resolve("solana-testnet") == "solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z"
    assert KNOWN.v1_name(Network("eip155:42161")) is None
    assert KNOWN.v1_name(CUSTOM) is None
    with pytest.raises(TypeError):
        KNOWN.chain_ids()["base"] = 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "chain"),
    [
        ("ethereum-mainnet", 1),
        ("base-mainnet", 8453),
        ("Polygon", 137),
        ("Ethereum-Sepolia", 11155111),
        ("Base-Sepolia ", 84532),
        ("LOCAL", 31337),
        (" eip155:8453\n", 8453),
    ],
)
def test_the_seeds_names_and_spellings_are_understood(name: str, chain: int) -> None:
    assert KNOWN.network(name).network == f"eip155:{chain}"


DEFAULTS = [
    *(8453, 84532, 1, 43114, 4326, 143, 988, 2201, 137, 42161, 421614, 31612, 31611, 723487, 72344, 36900, 190415),
    *(181228, 50, 51, 38833, 14, 42220, 11142220, 1329, 1328),
]


def test_every_default_asset_of_the_specification_is_the_default_and_the_dollar() -> None:
    for chain in DEFAULTS:
        network = f"eip155:{chain}"
        assert KNOWN.default(network) == KNOWN.by_symbol(network, "$") == KNOWN.assets(network)[0]
        assert KNOWN.network(network).name
    assert KNOWN.default("flare").name == "USD₮0"
    assert KNOWN.default("flare").code == "usdt0"
    assert [asset.code for asset in KNOWN.assets("celo")] == ["usdc", "usdt", "usat"]
    assert KNOWN.by_code("celo", "USAT").name == "Tether America USD"
    assert KNOWN.default("eip155:38833").methods == ("permit2",)
    assert KNOWN.default("radius").methods == ("permit2", "eip2612")
    assert KNOWN.by_symbol("base", "€").code == "eurc"
    assert KNOWN.by_symbol("avalanche-fuji", "€").name == "EUR Coin"


def test_testnets_are_marked_and_explorers_end_where_the_hash_begins() -> None:
    play = {info.v1_name for info in KNOWN.networks() if info.testnet}
    assert {"base-sepolia", "sepolia", "avalanche-fuji", "polygon-amoy", "local", "solana-devnet"} <= play
    assert not {"base", "ethereum", "polygon", "solana"} & play
    assert KNOWN.network("base").explorer == "https://basescan.org/tx/"
    assert all(info.explorer is None or info.explorer.endswith("/tx/") for info in KNOWN.networks())


def test_building_it_is_cheap() -> None:
    assert min(timeit.repeat(registry_module._known, number=1, repeat=20)) < 0.003


def test_importing_it_needs_nothing_heavy() -> None:
    code = "import sys, x402core.registry; print([m for m in sys.modules if m.split('.')[0] in ('web3','pydantic','eth_abi')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"[]"


# --- what is not known ---


@pytest.mark.parametrize(
    ("look", "field"),
    [
        (lambda: KNOWN.network("doge"), "network"),
        (lambda: KNOWN.network(""), "network"),
        (lambda: KNOWN.network("eip155:424242"), "network"),
        (lambda: KNOWN.network("eip155:01"), "network"),
        (lambda: KNOWN.network(8453), "network"),  # type: ignore[arg-type]
        (lambda: KNOWN.default("local"), "network"),
        (lambda: KNOWN.default("solana"), "network"),
        (lambda: KNOWN.by_code("base", "doge"), "code"),
        (lambda: KNOWN.by_symbol("ethereum", "€"), "symbol"),
        (lambda: KNOWN.by_symbol("base", ""), "symbol"),
        (lambda: KNOWN.asset("base", "0x12"), "address"),
    ],
)
def test_what_is_unknown_names_what_to_change(look: Any, field: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        look()
    assert caught.value.field == field
    assert len(str(caught.value)) < 400


def test_A16_a_currency_is_never_ignored() -> None:
    with pytest.raises(LocalProtocolError, match=r'"0\.01 USDC"'):
        KNOWN.by_code("ethereum", "DOGE")


@pytest.mark.parametrize(
    "changes",
    [
        {"network": "base"},
        {"network": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"},
        {"address": "0x12"},
        {"code": ""},
        {"code": "two words"},
        {"code": "é"},
        {"symbol": "US$"},
        {"symbol": "x"},
        {"symbol": "5"},
        {"symbol": "-"},
        {"symbol": "."},
        {"symbol": " "},
        {"symbol": "\u00a0"},
        {"symbol": None},
        {"name": ""},
        {"version": 2},
        {"decimals": 6.0},
        {"decimals": True},
        {"decimals": -1},
        {"decimals": 256},
        {"methods": ()},
        {"methods": ["eip3009"]},
        {"methods": ("EIP-3009",)},
    ],
    ids=str,
)
def test_a_wrong_asset_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        token(**changes)
    assert caught.value.field in changes


@pytest.mark.parametrize(
    "changes",
    [{"network": "base"}, {"name": " "}, {"v1_name": "a:b"}, {"v1_name": ""}, {"explorer": "ftp://x"}, {"aliases": ("a b",)}],
    ids=str,
)
def test_a_wrong_network_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        NetworkInfo(**{"network": CUSTOM, "name": "Custom", **changes})
    assert caught.value.field in changes


# --- our own networks and tokens ---


def test_Y11_a_token_without_a_sign_is_fine() -> None:
    registry = KNOWN.with_asset(token(network=LOCAL, code="USDC", symbol=""))
    assert registry.by_code("local", "usdc").symbol == ""
    with pytest.raises(LocalProtocolError):
        registry.with_asset(token(network=LOCAL), default_for_symbol=True)


def test_Y12_custom_networks_are_usable() -> None:
    info = NetworkInfo(CUSTOM, "Custom", v1_name=" Custom-Net", testnet=True, aliases=("Mine",))
    registry = KNOWN.with_network(info).with_asset(token(symbol="@"), default=True, default_for_symbol=True)
    assert registry.network("custom-net") == registry.network("MINE") == registry.network(CUSTOM) == info
    assert registry.chain_ids()["custom-net"] == 424242
    assert registry.v1_name(CUSTOM) == "custom-net"
    assert registry.default("mine") == registry.by_symbol("mine", "@") == registry.by_code("mine", "PLAY") == token(symbol="@")
    assert KNOWN.assets(CUSTOM) == ()


def test_Y12_a_token_on_a_network_without_an_entry_is_usable() -> None:
    registry = Registry().with_asset(token(), default=True)
    assert registry.default(CUSTOM) == registry.asset(CUSTOM, "0x" + "AB" * 20) == token()
    with pytest.raises(LocalProtocolError):
        registry.network(CUSTOM)


def test_a_name_or_code_is_not_taken_over_by_accident() -> None:
    with pytest.raises(LocalProtocolError, match="base") as caught:
        KNOWN.with_network(NetworkInfo(CUSTOM, "Custom", v1_name="base"))
    assert caught.value.field == "name"
    with pytest.raises(LocalProtocolError, match="usdc") as caught:
        KNOWN.with_asset(token(network=BASE, code="usdc"))
    assert caught.value.field == "code"
    usdc = KNOWN.default(BASE)
    again = KNOWN.with_asset(replace(usdc, methods=("eip3009",)))  # the same token may be described anew
    assert again.default(BASE).methods == ("eip3009",)
    assert again.by_symbol(BASE, "$").methods == ("eip3009",)


def test_a_name_taken_over_by_a_merge_belongs_to_one_network() -> None:
    registry = KNOWN | Registry((NetworkInfo(CUSTOM, "Custom", v1_name="base"),))
    assert registry.resolve("base") == CUSTOM
    assert registry.v1_name(CUSTOM) == "base"
    assert registry.v1_name(BASE) is None
    assert registry.chain_ids()["base"] == 424242


def test_a_sign_is_not_taken_over_without_saying_so() -> None:
    mine = token(network=BASE, symbol="$")
    assert KNOWN.with_asset(mine).by_symbol("base", "$") == KNOWN.default("base")
    assert KNOWN.with_asset(mine, default_for_symbol=True).by_symbol("base", "$") == mine
    assert KNOWN.with_asset(mine, default_for_symbol=True).default("base") == KNOWN.default("base")
    assert KNOWN.with_asset(mine, default=True).assets("base")[0] == mine


def test_a_default_must_be_an_asset() -> None:
    with pytest.raises(LocalProtocolError) as caught:
        Registry((), (), {(BASE, ""): Address("0x" + "00" * 20)})
    assert caught.value.field == "defaults"


def test_nothing_changes_and_copies_are_equal() -> None:
    with pytest.raises(AttributeError):
        KNOWN._assets = {}
    with pytest.raises(AttributeError):
        del KNOWN._assets
    with pytest.raises(FrozenInstanceError):
        KNOWN.default("base").decimals = 18  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(KNOWN)) == copy.deepcopy(KNOWN) == KNOWN
    assert hash(copy.copy(KNOWN)) == hash(KNOWN)
    assert KNOWN != 1
    assert Registry() != KNOWN
    with pytest.raises(TypeError):
        KNOWN | {}  # type: ignore[operator]
    assert repr(Registry()) == "<Registry of 0 networks, 0 assets>"


# --- Y13: the laws of | ---

networks = st.sampled_from([Network(f"eip155:{n}") for n in (1, 2, 3)])
addresses = st.sampled_from([Address("0x" + c * 40) for c in "abc"])


@st.composite
def registries(draw: st.DrawFn) -> Registry:
    infos = draw(
        st.lists(st.builds(NetworkInfo, networks, st.sampled_from("AB"), st.sampled_from(["a", "b", None])), max_size=3)
    )
    assets = draw(
        st.lists(
            st.builds(
                Asset,
                networks,
                addresses,
                st.sampled_from(["usdc", "eurc"]),
                st.sampled_from(["", "$"]),
                st.just("n"),
                st.just("1"),
                st.integers(6, 7),
                st.just(("permit2",)),
            ),
            max_size=4,
        )
    )
    chosen = draw(st.lists(st.tuples(st.sampled_from(assets), st.sampled_from(["", "$"])), max_size=3)) if assets else []
    return Registry(infos, assets, {(asset.network, sign): asset.address for asset, sign in chosen})


def everything(registry: Registry) -> list[Asset]:
    return [asset for n in (1, 2, 3) for asset in registry.assets(f"eip155:{n}")]


@given(registries(), registries(), registries())
def test_Y13_merging_is_associative(a: Registry, b: Registry, c: Registry) -> None:
    assert (a | b) | c == a | (b | c)
    assert hash((a | b) | c) == hash(a | (b | c))


@given(registries())
def test_Y13_the_empty_registry_is_the_identity_and_merging_is_idempotent(a: Registry) -> None:
    assert a | Registry() == Registry() | a == a | a == a
    assert pickle.loads(pickle.dumps(a)) == a


@given(registries(), registries())
def test_Y13_every_asset_of_both_sides_is_found_and_the_right_wins(a: Registry, b: Registry) -> None:
    both = a | b
    for asset in everything(b):
        assert both.asset(asset.network, asset.address) == asset
    for asset in everything(a):
        assert both.asset(asset.network, asset.address) == (b.asset(asset.network, asset.address) or asset)
    assert len(everything(both)) == len({(x.network, x.address) for x in everything(a) + everything(b)})


@given(registries(), registries(), networks, st.sampled_from(["", "$"]))
def test_Y13_the_right_sides_defaults_win_else_the_lefts_are_kept(a: Registry, b: Registry, at: Network, sign: str) -> None:
    def default(registry: Registry) -> Address | None:
        try:
            return (registry.by_symbol(at, sign) if sign else registry.default(at)).address
        except LocalProtocolError:
            return None

    assert default(a | b) == (default(b) or default(a))


@given(registries(), registries(), networks)
def test_Y13_names_and_codes_mean_one_thing_after_a_merge(a: Registry, b: Registry, at: Network) -> None:
    both = a | b
    for asset in both.assets(at):
        assert both.by_code(at, asset.code).code == asset.code
    name = both.v1_name(at)
    if name is not None:
        assert both.resolve(name) == at
    for code in ("usdc", "eurc"):
        mine = [asset for asset in b.assets(at) if asset.code == code]
        if mine:
            assert both.by_code(at, code) in mine


def test_Y13_the_right_sides_code_wins_over_an_older_clash() -> None:
    first, second = token(code="usdc"), token(code="usdc", address="0x" + "cd" * 20)
    left = Registry((), (first, second))
    assert left.by_code(CUSTOM, "usdc") == second
    assert (left | Registry((), (first,))).by_code(CUSTOM, "usdc") == first


def test_Y13_a_per_endpoint_setup_on_top_of_the_known_one() -> None:
    own = Registry((NetworkInfo(CUSTOM, "Custom", v1_name="custom"),)).with_asset(token(), default=True)
    setup = KNOWN | own
    assert setup.default("custom") == token()
    assert setup.default("base") == KNOWN.default("base")
    assert setup | own == setup
