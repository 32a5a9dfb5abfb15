"""The public names, pinned: to add one is a decision, to lose one is a breaking change."""

from __future__ import annotations

import importlib
import inspect
import types

import pytest

import x402core

PUBLIC: tuple[str, ...] = (
    # errors
    "LocalProtocolError",
    "ProtocolError",
    "Reason",
    "Refusal",
    "RemoteProtocolError",
    "Reply",
)
"""Names that must be there.  Extend it with the release; the exact set is compared with ``x402core.__all__`` below."""

PINNED = frozenset(x402core.__all__)


def test_every_public_name_is_there() -> None:
    assert set(PUBLIC) <= PINNED
    for name in x402core.__all__:
        assert getattr(x402core, name) is not None
    assert sorted(dir(x402core)) == sorted(set(dir(x402core)))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = x402core.Nothing


UNLISTED = frozenset({"Receipts", "problem", "payment_state"})
"""Used by name from elsewhere, and not in their module's ``__all__`` (reported; take out of here what gets listed)."""
MODULES = ("access", "commands", "errors", "events", "ledger", "money", "policy", "reads", "registry", "values")


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_gives(name: str) -> None:
    module = importlib.import_module(f"x402core.{name}")
    assert list(module.__all__) == sorted(module.__all__, key=_isort)
    defined = {
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and (inspect.isclass(value) or isinstance(value, types.FunctionType))
        and value.__module__ == module.__name__
    }
    missing = defined - set(module.__all__) - UNLISTED
    assert not missing, f"public, but not in __all__: {sorted(missing)}"


def _isort(name: str) -> tuple[int, str]:
    """Order as ruff's RUF022 does: constants, classes, functions."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)


def test_every_command_says_what_its_failure_means() -> None:
    commands = importlib.import_module("x402core.commands")
    for name in commands.__all__:
        value = getattr(commands, name)
        if inspect.isclass(value) and issubclass(value, commands.Command) and value is not commands.Command:
            assert "On failure:" in (value.__doc__ or ""), name
