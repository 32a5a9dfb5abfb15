"""Any order of calls: memory and sqlite answer alike, and as an independent model says."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from x402bind.ledger import Ledger, MemoryLedger, SqliteLedger
from x402core.catalog import CatalogQuery
from x402core.errors import Reply
from x402core.events import Settled, Unsettled
from x402core.ledger import ClaimStatus, Grant
from x402core.values import Address, Amount, Millis

from .model import Model
from .samples import (
    ACCOUNT,
    EXPIRES,
    NETWORK,
    NOW,
    OTHER_REPLY,
    OTHER_REQUEST,
    REPLY,
    REQUEST,
    attempt,
    entry,
    payer,
    pending,
    permit,
    record,
    settled,
    void,
)

PAYMENTS = st.integers(1, 3)
OWNERS = st.sampled_from(["a", "b", "c"])
REQUESTS = st.sampled_from([REQUEST, OTHER_REQUEST])
REPLIES = st.sampled_from([None, REPLY, OTHER_REPLY])
NAMES = st.sampled_from(["", "pay_1", "pay_2"])
RESOURCES = st.sampled_from(["/goods", "/other"])
PAYERS = st.sampled_from([payer(1), payer(2)])
OUTCOMES = st.sampled_from([None, settled(), void(), void(final=False), pending()])


class Ledgers(RuleBasedStateMachine):
    """Two ledgers and a model, told the same."""

    now = NOW

    @initialize()
    def open(self) -> None:
        self.model = Model()
        self.memory: Ledger = MemoryLedger()
        self.sqlite: Ledger = SqliteLedger(":memory:")
        self.both = (self.memory, self.sqlite)

    def teardown(self) -> None:
        for ledger in getattr(self, "both", ()):
            ledger.close()

    @rule(by=st.sampled_from([1, 999, 1000, 2000]))
    def time_passes(self, by: int) -> None:
        self.now = Millis(self.now + by)

    @rule(n=PAYMENTS, request=REQUESTS, owner=OWNERS, lease=st.sampled_from([0, 1000, 3000]), name=NAMES)
    def claim(self, n: int, request: str, owner: str, lease: int, name: str) -> None:
        until, key = Millis(self.now + lease), permit(n).key
        answers = [ledger.claim(key, request, owner, until, now=self.now, identifier=name) for ledger in self.both]
        assert answers[0] == answers[1]
        assert answers[0].status is self.model.claim(key, request, owner, until, self.now, name)

    @rule(n=PAYMENTS, owner=OWNERS, lease=st.sampled_from([0, 1000, 3000]))
    def extend(self, n: int, owner: str, lease: int) -> None:
        until = Millis(self.now + lease)
        expected = self.model.extend(permit(n).key, owner, until)
        for ledger in self.both:
            assert ledger.extend(permit(n).key, owner, until) is expected

    @rule(n=PAYMENTS, owner=OWNERS)
    def release(self, n: int, owner: str) -> None:
        for ledger in self.both:
            ledger.release(permit(n).key, owner)
        self.model.release(permit(n).key, owner)

    @rule(
        n=PAYMENTS,
        owner=OWNERS,
        reply=REPLIES,
        proof=st.sampled_from([None, settled()]),
        grant=st.none() | st.builds(Grant, RESOURCES, PAYERS),
    )
    def commit(self, n: int, owner: str, reply: Reply | None, proof: Settled | None, grant: Grant | None) -> None:
        for ledger in self.both:
            ledger.commit(permit(n).key, owner, proof, reply, grant)
        self.model.close_claim(permit(n).key, owner, "committed", reply, proof is not None)
        if grant is not None:
            self.model.grant(grant.resource, grant.payer, permit(n).key, owner)

    @rule(n=PAYMENTS, owner=OWNERS, reply=REPLIES, proof=st.sampled_from([None, settled()]))
    def keep(self, n: int, owner: str, reply: Reply | None, proof: Settled | None) -> None:
        for ledger in self.both:
            ledger.keep(permit(n).key, owner, reply, proof)
        self.model.close_claim(permit(n).key, owner, "kept", reply, proof is not None)

    @rule(n=PAYMENTS, served=st.booleans())
    def refund(self, n: int, served: bool) -> None:
        expected = self.model.refund(permit(n).key, self.now, served)
        for ledger in self.both:
            assert ledger.refund(permit(n).key, now=self.now, served=served) is expected

    @rule(resource=RESOURCES, who=PAYERS, nonce=st.sampled_from(["n1", "n2"]), life=st.sampled_from([0, 1, 1500]))
    def sign_in(self, resource: str, who: Address, nonce: str, life: int) -> None:
        until = Millis(self.now + life)
        expected = self.model.sign_in(resource, who, nonce, until, self.now)
        for ledger in self.both:
            assert ledger.sign_in(resource, who, nonce, until, now=self.now) == expected

    @rule(n=PAYMENTS, to=st.integers(1, 2), back=st.sampled_from([0, 1, 1500]), text=st.sampled_from(["", "red", "blue"]))
    def catalogue(self, n: int, to: int, back: int, text: str) -> None:
        made = entry(n, to=to, at=self.now - back, description=text)
        self.model.list_entry(made)
        for ledger in self.both:
            ledger.catalogue(made)

    @rule(n=PAYMENTS, most=st.sampled_from([None, 100, 250]))
    def record_intent(self, n: int, most: int | None) -> None:
        limit = None if most is None else Amount(most)
        expected = self.model.intent(record(n, created=self.now), most)
        for ledger in self.both:
            assert ledger.record_intent(record(n, created=self.now), limit) == expected

    @rule(n=PAYMENTS)
    def persist_intent(self, n: int) -> None:
        before = self.model.journal.get(permit(n).key)
        self.model.intent(record(n, created=self.now))
        for ledger in self.both:
            assert ledger.persist_intent(record(n, created=self.now)) == before

    @rule(n=PAYMENTS, first=st.none() | st.integers(0, 5), fee=st.integers(1, 2), sent=st.booleans(), outcome=OUTCOMES)
    def persist(self, n: int, first: int | None, fee: int, sent: bool, outcome: Settled | Unsettled | None) -> None:
        key = permit(n).key
        if key not in self.model.journal:
            return
        news = replace(record(n), sent=sent, outcome=outcome)
        signed = None if first is None else attempt(first, first + 1, fee=fee)
        if signed is not None:
            news = news.with_attempt(signed)
        self.model.persist(key, signed, sent, outcome)
        for ledger in self.both:
            assert ledger.persist(news) == self.model.journal[key]

    @rule(n=PAYMENTS, count=st.integers(1, 3), floor=st.integers(0, 4))
    def allocate(self, n: int, count: int, floor: int) -> None:
        expected = self.model.allocate(permit(n).key, count, floor)
        for ledger in self.both:
            assert ledger.allocate(NETWORK, ACCOUNT, permit(n).key, count, floor=floor) == expected

    @rule(n=PAYMENTS)
    def return_numbers(self, n: int) -> None:
        self.model.give_back(permit(n).key)
        for ledger in self.both:
            ledger.return_numbers(NETWORK, permit(n).key)

    @rule(n=PAYMENTS, worker=OWNERS, length=st.sampled_from([0, 1000]))
    def lease(self, n: int, worker: str, length: int) -> None:
        until = Millis(self.now + length)
        expected = self.model.lease(permit(n).key, worker, until, self.now)
        for ledger in self.both:
            assert ledger.lease(permit(n).key, worker, until, now=self.now) is expected

    @rule(n=PAYMENTS, worker=OWNERS)
    def unlease(self, n: int, worker: str) -> None:
        self.model.unlease(permit(n).key, worker)
        for ledger in self.both:
            ledger.unlease(permit(n).key, worker)

    @rule(after=st.sampled_from([0, 1, 1500]))
    def prune(self, after: int) -> None:
        before = Millis(EXPIRES * 1000 + after)
        expected = self.model.prune(before)
        for ledger in self.both:
            assert ledger.prune(before) == expected

    @rule()
    def the_permits_expire(self) -> None:
        self.now = Millis(max(self.now, EXPIRES * 1000))

    @invariant()
    def all_agree(self) -> None:
        if not hasattr(self, "both"):
            return
        assert self.memory.entries() == self.sqlite.entries()
        claims = {entry.key: entry.claim for entry in self.memory.entries() if entry.claim is not None}
        assert claims == {key: held.state for key, held in self.model.claims.items()}
        assert self.memory.open_records() == self.sqlite.open_records()
        listed = tuple(self.model.listed)
        red = sorted((e for e in listed if e.description == "red"), key=lambda e: -e.last_updated)
        mine = [e for e in listed if e.payee == payer(2)]
        for ledger in self.both:
            assert ledger.resources(CatalogQuery()) == (listed, len(listed))
            assert ledger.search("red", CatalogQuery(limit=2)) == (tuple(red[:2]), len(red))
            assert ledger.resources(CatalogQuery(pay_to=payer(2), offset=1)) == (tuple(mine[1:]), len(mine))
        for n in (1, 2, 3):
            key = permit(n).key
            for name in ("pay_1", "pay_2"):
                named = self.memory.recall(key, REQUEST, now=self.now, identifier=name)
                assert named == self.sqlite.recall(key, REQUEST, now=self.now, identifier=name)
                assert named.status is self.model.recall(key, REQUEST, self.now, name)
            assert self.memory.record(key) == self.sqlite.record(key) == self.model.journal.get(key)
            assert self.memory.payment_state(key) is self.sqlite.payment_state(key)
            for request in (REQUEST, OTHER_REQUEST):
                recalled = self.memory.recall(key, request, now=self.now)
                assert recalled == self.sqlite.recall(key, request, now=self.now)
                assert recalled.status is self.model.recall(key, request, self.now)
                if recalled.status is ClaimStatus.ANSWERED:
                    assert recalled.reply == self.model.claims[key].reply
                if recalled.status is ClaimStatus.UNSERVED:
                    assert recalled.settled == settled()


TestLedgers = Ledgers.TestCase
TestLedgers.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
