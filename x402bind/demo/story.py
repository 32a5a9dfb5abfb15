"""What the demo shows in a terminal: the transcript's events as sentences, in colour where the terminal has it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final, TextIO

from x402core.money import format_amount
from x402core.registry import Asset
from x402core.values import Amount

__all__ = ["Story"]

_STYLES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_TITLES: Final = {
    "permit-token": "Permit, token, resource: the payer never waits for the chain",
    "x402-v2": "x402 v2, exact: one signed authorization, one round trip",
}


class Story:
    """A narrator.  ``out`` None keeps silent."""

    def __init__(self, out: TextIO | None, asset: Asset) -> None:
        self._out = out
        self._asset = asset
        self._colour = out is not None and out.isatty() and "NO_COLOR" not in os.environ

    def say(self, text: str = "") -> None:
        """Write a line."""
        if self._out is not None:
            self._out.write(text + "\n")
            self._out.flush()

    def style(self, text: object, *styles: str) -> str:
        """Return text in these styles, where the terminal has any."""
        codes = ";".join(_STYLES[style] for style in styles)
        return f"\x1b[{codes}m{text}\x1b[0m" if self._colour else str(text)

    def money(self, amount: int) -> str:
        """Return an amount as people write it."""
        return format_amount(Amount(amount), self._asset)

    def stage(self, facts: Mapping[str, str]) -> None:
        """Introduce who takes part."""
        self.say(self.style("x402 demo", "bold") + self.style("  three processes on loopback, one chain", "dim"))
        for name, what in facts.items():
            self.say(f"  {name:<8} {self.style(what, 'dim')}")

    def title(self, number: int, dialect: str) -> None:
        """Head a flow."""
        self.say()
        self.say(self.style(f"{number}. {_TITLES[dialect]}", "bold", "cyan"))

    def event(self, event: Mapping[str, Any]) -> None:
        """Tell one event of the payer's transcript."""
        teller = {"http": self._http, "chosen": self._chosen, "done": self._done}.get(event["event"])
        if teller is not None:
            teller(event)

    def _http(self, event: Mapping[str, Any]) -> None:
        status, headers = event["status"], event["headers"]
        style = "green" if status < 400 else "yellow" if status == 402 else "red"
        what = f"{event['method']} {event['path'].split('?')[0]}"
        carried = " + signed payment" if "PAYMENT-SIGNATURE" in headers else " + token" if event["authorized"] else ""
        line = f"  {what + carried:<34} {self.style(status, style, 'bold')} {self.style(str(event['ms']) + ' ms', 'dim')}"
        self.say(line)
        if status == 402:
            self._offers(event)
        if isinstance(event["response"], dict) and "access_token" in event["response"]:
            token = event["response"]
            self.say(f"    token minted at once: {token['access_token'][:24]}… for {token['expires_in']} s")
        receipt = headers.get("PAYMENT-RESPONSE")
        if isinstance(receipt, dict):
            self.say(f"    receipt: success {str(receipt['success']).lower()}, transaction {receipt['transaction']}")

    def _offers(self, event: Mapping[str, Any]) -> None:
        for offer in event["headers"].get("PAYMENT-REQUIRED", {}).get("accepts", []):
            self.say(f"    offer: x402 v2 {offer['scheme']}, {self.money(int(offer['amount']))} on {offer['network']}")
        scheme = (event["response"] or {}).get("payment_scheme", {})
        for part in scheme.get("payment_components", []):
            self.say(f"    offer: permit-token, {part['amount']} {part['currency']} on chain {part['chain_id']}")

    def _chosen(self, event: Mapping[str, Any]) -> None:
        how = {"eip2612": "EIP-2612 permit", "eip3009": "EIP-3009 transfer authorization"}[event["method"]]
        allowed = self.style(f"policy allows {self.money(event['amount'])}", "dim")
        self.say(f"  {allowed}; {how} signed for {event['pay_to']}")

    def _done(self, event: Mapping[str, Any]) -> None:
        self.say(f"  served in {event['ms']} ms: {self.style((event['body'] or {}).get('forecast', event['body']), 'bold')}")

    def settled(self, names: tuple[str, ...], hashes: tuple[str, ...]) -> None:
        """Tell the transactions that moved the money."""
        for name, transaction in zip(names, hashes, strict=True):
            self.say(f"    {name:<26} {transaction}")

    def balances(self, before: Mapping[str, int], after: Mapping[str, int]) -> None:
        """Tell both balances and the exact differences."""
        for who in ("payer", "pay_to"):
            change = after[who] - before[who]
            sign = "+" if change > 0 else "-" if change < 0 else "±"
            exact = self.style(f"{sign}{self.money(abs(change))}", "green" if change > 0 else "yellow")
            moved = f"{self.money(before[who]):>12} → {self.money(after[who]):>12}"
            self.say(f"    {who:<8} {moved}   {exact}  ({change:+d} atomic units)")

    def replay(self, event: Mapping[str, Any], charged: int) -> None:
        """Tell what the same payment got when it was presented again."""
        answer = "the same answer" if event["same_answer"] else "another answer"
        cost = "no second charge" if charged == 0 else f"CHARGED AGAIN: {self.money(charged)}"
        self.say(f"  the same payment presented again: {event['status']}, {answer}, {cost}")

    def verdict(self, checks: Mapping[str, bool], seconds: float) -> None:
        """Tell whether everything held."""
        self.say()
        broken = [name for name, held in checks.items() if not held]
        if broken:
            self.say(self.style(f"{len(broken)} of {len(checks)} checks failed: {'; '.join(broken)}", "red", "bold"))
        else:
            self.say(self.style(f"all {len(checks)} checks held", "green", "bold") + self.style(f"  in {seconds:.1f} s", "dim"))
