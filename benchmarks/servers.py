"""A FastAPI application with our price on it beside the released official SDK, in one run.

    python benchmarks/servers.py [--json] [--rounds 5] [--seconds 4] [--profile DIRECTORY]

Every application is a uvicorn process (uvloop, httptools, one worker) on the first core; the load (``load.py``) is on the last.
Both sides have the same versions of Python, uvicorn, uvloop, httptools and FastAPI, or it says so; ours takes uvloop and
httptools from the official environment (``python -m tests.install_peers``).  Chains are in memory (``stub_chain.py``): ours is
asked in bytes of JSON in place of HTTP, the official one's web3 in Python objects, which spares it the JSON.  Every
transaction is mined at once.  "Signer stubbed" is the official SDK with its signer's chain calls answered directly: no web3,
and no transaction is encoded or signed, which a real shop cannot leave out.  Permits are real, fresh for each request, and
signed before the clock starts.  ``least_app.py`` shows what a payment takes where nothing is kept of it.

Everything is measured in every round, in turns, those of what nobody pays for a twentieth as long; what is printed is the
median over the rounds, and a ratio is the median of the rounds' own ratios.  It ends with an error unless every answer was
what it should be, every paid one a 200 with a receipt of a transaction of its own, and the chain has executed, and the
application served, exactly as many payments.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from facilitator import FAST, PEER, ROOT

HERE = Path(__file__).parent
SERVER_CORE, *_, LOAD_CORE = sorted(os.sched_getaffinity(0)) * 2
SLOW = 0.005
SLOW_PAYERS = 8
STREAMS = 3
TURNS = 20
BORROWED = ("uvloop", "httptools")
SELLING = ("memory", "sqlite", "least", "official", "official fast", "official direct", "official fast direct")
OTHERS = {
    "official fast": "official + coincurve",
    "official direct": "official as installed, signer stubbed",
    "official fast direct": "official + coincurve, signer stubbed",
}
NAMES = {
    "bare paid": "the same route, bare",
    "official bare paid": "the same route, official bare",
    "official": "official as installed",
    "least": "least_app.py",
    **OTHERS,
}
SAME = ("uvicorn", "fastapi", "starlette", "pydantic", "anyio", *BORROWED)
FEW = 300  # payments of a warm-up, and the fewest that are signed for a round

Result = dict[str, Any]


class Server:
    """One application in a process of its own; ``pay`` and its kin check what the load saw against what the server did."""

    def __init__(self, command: list[str], path: str, core: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        script, *arguments = command[1:]
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the server
        env = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            [command[0], str(HERE / script), str(self.port), *arguments],
            env=env,
            stdout=self.log,
            stderr=self.log,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        self.rates: dict[tuple[int, float], float] = {}

    def ready(self) -> None:
        """Wait until it answers."""
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            try:
                self.bench()
                return
            except OSError:
                time.sleep(0.05)
        sys.exit(f"a server did not start:\n{self.said()}")

    def bench(self, query: str = "") -> Result:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/bench?{query}", timeout=60) as answer:
            told: Result = json.load(answer)
        return told

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-4000:]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()


class Load:
    """The load's process."""

    def __init__(self, path: str) -> None:
        env = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "load.py")],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {LOAD_CORE}),
        )

    def do(self, what: str, server: Server, **how: Any) -> Result:
        """Have one thing done.  Ends the benchmark when anything but the wanted answers came."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": what, "port": server.port, **how}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"the load broke off at {what} {how}; the server said:\n{server.said()}")
        told: Result = json.loads(line)
        for part in (told, told.get("paying", {})):
            if part.get("bad") or part.get("answers") == 0:
                sys.exit(f"{what} {how}: {part}\nthe server said:\n{server.said()}")
        return told

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Course:
    """What is measured: each method is one measurement of one server in one round."""

    def __init__(self, load: Load, seconds: float, connections: int) -> None:
        self.load, self.seconds, self.connections = load, seconds, connections

    def free(self, server: Server) -> float:
        return float(self._rate(server, "/free")["rate"])

    def unpaid(self, server: Server, status: int = 402) -> float:
        return float(self._rate(server, "/paid", status=status)["rate"])

    def _rate(self, server: Server, path: str, **how: Any) -> Result:
        return self.load.do("rate", server, path=path, connections=self.connections, seconds=self.seconds, **how)

    def paid(self, server: Server, connections: int, seconds: float | None = None) -> float:
        """Measure paid requests per second; the number of payments to sign is guessed from the last time."""
        seconds = seconds or self.seconds
        guess = max(FEW, int(server.rates.get((connections, 0.0), 0.0) * seconds * 1.5))
        told = self._settling(
            server, lambda: self.load.do("rate", server, path="/paid", connections=connections, seconds=seconds, pay=guess)
        )
        server.rates[connections, 0.0] = told["rate"]
        return float(told["rate"])

    def stream(self, server: Server) -> Result:
        return self._settling(server, lambda: self.load.do("first_byte", server, path="/stream", count=STREAMS))

    def idle(self, server: Server) -> Result:
        return self.load.do("latency", server, seconds=self.seconds)

    def disturbed(self, server: Server) -> Result:
        """Measure the latency of an unpriced route while clients pay and every call to the chain takes its time."""
        guess = int(1.5 * (self.seconds + 1) * SLOW_PAYERS / (4 * SLOW)) + FEW
        server.bench(f"delay={SLOW}")
        try:
            return self._settling(
                server, lambda: self.load.do("latency", server, seconds=self.seconds, payers=SLOW_PAYERS, pay=guess), "paying"
            )
        finally:
            server.bench("delay=0")

    def _settling(self, server: Server, run: Any, part: str = "") -> Result:
        """Run it and demand that as many were settled and served as the load counts."""
        before = server.bench()
        told: Result = run()
        after = server.bench()
        answers = (told[part] if part else told)["answers"]
        moved = {name: after[name] - before[name] for name in ("settled", "failed", "served")}
        if moved != {"settled": answers, "failed": 0, "served": answers}:
            sys.exit(f"{answers} payments were answered, but {moved}\nthe server said:\n{server.said()}")
        told["calls"] = (after["requests"] - before["requests"]) / answers
        return told


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--many", type=int, default=128, help="connections of the second row of paid requests")
    parser.add_argument("--look-first", type=int, default=0, help="our first look for a receipt, in ms (0: as a user has it)")
    parser.add_argument("--profile", type=Path, help="only profile our paid path, into this directory")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    with ExitStack() as stack:
        room = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = _path(room)
        load = Load(path)
        stack.callback(load.close)
        course = Course(load, options.seconds, options.connections)

        def start(command: list[str], path: str) -> Server:
            server = Server(command, path, SERVER_CORE)
            stack.callback(server.close)
            return server

        def ours(mode: str, ledger: str) -> Server:
            return start([sys.executable, "our_app.py", mode, ledger, str(options.look_first)], path)

        memory, sqlite = ours("after", "memory:"), ours("after", f"sqlite:{room / 'ledger.db'}")
        if options.profile:
            _profile(
                course,
                {"memory": memory, "sqlite": sqlite, "inline": ours("after", f"inline:sqlite:{room / 'inline.db'}")},
                options.profile,
            )
            return
        _install_fast()
        servers = {
            "bare": ours("bare", "memory:"),
            "memory": memory,
            "sqlite": sqlite,
            "before": ours("before", "memory:"),
            "least": start([sys.executable, "least_app.py"], path),
            "official": start([str(PEER), "official_app.py", "after"], str(HERE)),
            "official fast": start([str(PEER), "official_app.py", "after"], f"{HERE}{os.pathsep}{FAST}"),
            "official direct": start([str(PEER), "official_app.py", "after", "signer"], str(HERE)),
            "official fast direct": start([str(PEER), "official_app.py", "after", "signer"], f"{HERE}{os.pathsep}{FAST}"),
            "official bare": start([str(PEER), "official_app.py", "bare"], str(HERE)),
            "official before": start([str(PEER), "official_app.py", "before"], str(HERE)),
        }
        for server in servers.values():
            server.ready()
        _warm_up(course, servers, options.many)
        rounds = []
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            rounds.append(_round(course, servers, options.many))
    result = _summed(rounds, options)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        _print(result)


def _path(room: Path) -> str:
    """Return our servers' PYTHONPATH: this package, and of the official environment uvloop and httptools alone."""
    borrowed = room / "borrowed"
    borrowed.mkdir()
    asked = "import importlib, os, sys; print(*[os.path.dirname(importlib.import_module(m).__file__) for m in sys.argv[1:]])"
    done = subprocess.run([str(PEER), "-c", asked, *BORROWED], check=True, capture_output=True, text=True)
    for where in map(Path, done.stdout.split()):
        (borrowed / where.name).symlink_to(where)
    return os.pathsep.join(map(str, (ROOT, HERE, borrowed)))


def _install_fast() -> None:
    """Install coincurve beside the official environment, never into it: its 'as installed' rows are to stay so."""
    if not FAST.exists():
        wanted = ["coincurve>=20", "safe-pysha3>=1.0.4"]
        subprocess.run([str(PEER), "-m", "pip", "install", "-q", "--target", str(FAST), *wanted], check=True)


def _warm_up(course: Course, servers: dict[str, Server], many: int) -> None:
    for name, server in servers.items():
        course.load.do("rate", server, path="/free", connections=course.connections, seconds=0.5)
        if "bare" not in name:
            for connections in (course.connections, many):
                course.paid(server, connections, seconds=1.0)


def _round(course: Course, servers: dict[str, Server], many: int) -> dict[str, Any]:
    """Measure everything once; each beside what it is compared with."""
    few = course.connections
    round_: dict[str, Any] = {}

    def note(name: str, what: Any) -> None:
        round_[name] = what

    round_ |= _in_turns(course, servers)
    for name in SELLING:
        note(f"paid {name}", course.paid(servers[name], few))
        note(f"paid many {name}", course.paid(servers[name], many))
    for name in ("before", "official before"):
        note(f"stream {name}", course.stream(servers[name]))
    for name in ("memory", "official", "official fast"):
        note(f"idle {name}", course.idle(servers[name]))
        note(f"slow {name}", course.disturbed(servers[name]))
    return round_


def _in_turns(course: Course, servers: dict[str, Server]) -> dict[str, Any]:
    """Measure what nobody pays for in short turns, each time in another order, and return the median rates.

    What is compared here differs by a few hundredths, and a machine's speed drifts by more than that in a second.
    """
    short = Course(course.load, course.seconds / TURNS, course.connections)
    jobs: dict[str, Any] = {
        "bare": lambda: short.free(servers["bare"]),
        "bare paid": lambda: short.unpaid(servers["bare"], 200),
        "official bare": lambda: short.free(servers["official bare"]),
        "official bare paid": lambda: short.unpaid(servers["official bare"], 200),
        **{f"free {name}": lambda name=name: short.free(servers[name]) for name in ("memory", "official")},
        **{f"unpaid {name}": lambda name=name: short.unpaid(servers[name]) for name in ("memory", "official")},
    }
    rates: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(TURNS):
        for name in random.sample(list(jobs), len(jobs)):
            rates[name].append(jobs[name]())
    return {name: statistics.median(each) for name, each in rates.items()}


# ------------------------------------------------------------------------------------------------------------ the result


def _summed(rounds: list[dict[str, Any]], options: argparse.Namespace) -> Result:
    few, many = options.connections, options.many

    def median(name: str, part: str | None = None) -> float:
        return statistics.median(each[name] if part is None else each[name][part] for each in rounds)

    def ratio(name: str, other: str, part: str | None = None) -> float:
        pairs = [(each[name], each[other]) for each in rounds]
        return statistics.median(a / b if part is None else a[part] / b[part] for a, b in pairs)

    def row(what: str, value: float, unit: str, **rest: Any) -> Result:
        wanted = rest.get("wanted")
        if wanted is not None:
            sign, bound = wanted.split()
            held = rest.get("ratio", value)
            rest["met"] = held >= float(bound) if sign == ">=" else held <= float(bound)
        return {"what": what, "value": value, "unit": unit, **rest}

    def rate(what: str, name: str, other: str | None = None, wanted: str | None = None) -> Result:
        if other is None:
            return row(what, median(name), "req/s")
        told = {
            "ratio": ratio(name, other),
            "to": NAMES.get(other, NAMES.get(other.removeprefix("paid ").removeprefix("many "), other)),
        }
        return row(what, median(name), "req/s", **told, **({"wanted": wanted} if wanted else {}))

    rows = [
        rate("bare FastAPI, /free", "bare"),
        rate("the same in the official environment", "official bare", "bare"),
        rate("ours, unpriced route", "free memory", "bare", ">= 0.95"),
        rate("official, unpriced route", "free official", "official bare"),
        rate("bare, the route that we price", "bare paid", "bare"),
        rate("ours, unpaid: 402", "unpaid memory", "bare paid", ">= 1.0"),
        rate("    the same", "unpaid memory", "bare", ">= 1.0"),
        rate("official, unpaid: 402", "unpaid official", "official bare paid"),
    ]
    for count, kind in ((few, "paid"), (many, "paid many")):
        rows.append(rate(f"official as installed, paid, {count} connections", f"{kind} official"))
        for name, label in OTHERS.items():
            rows.append(rate(f"{label}, paid, {count} connections", f"{kind} {name}", f"{kind} official"))
        for ledger in ("memory", "sqlite"):
            name, label = f"{kind} {ledger}", f"ours, {ledger} ledger, paid, {count} connections"
            rows.append(rate(label, name, f"{kind} official", ">= 30"))
            for other in OTHERS:
                rows.append(rate("    the same", name, f"{kind} {other}", ">= 30" if other == "official direct" else None))
            rows.append(rate("    the same", name, f"{kind} least"))
            rows.append(row("    the last round : the first", rounds[-1][name] / rounds[0][name], "x"))
        rows.append(rate(f"least_app.py (no ledger), paid, {count} connections", f"{kind} least", f"{kind} official"))
    for name, label, wanted in (("before", "ours", {"wanted": "<= 0.1"}), ("official before", "official", {})):
        rows.append(row(f"{label}, first byte of a paid 1 s stream", median(f"stream {name}", "first"), "s", **wanted))
    for name, label in (("memory", "ours"), ("official", "official as installed"), ("official fast", "official + coincurve")):
        wanted = {"wanted": "<= 3"} if name == "memory" else {}
        for part in ("p50", "p99"):
            idle, slow = f"idle {name}", f"slow {name}"
            rows.append(row(f"{label}, unpriced route idle, {part}", median(idle, part), "ms"))
            told = {"ratio": ratio(slow, idle, part), "to": "idle", **(wanted if part == "p50" else {})}
            rows.append(row(f"{label}, while {SLOW_PAYERS} pay, {part}", median(slow, part), "ms", **told))
        paying = statistics.median(each[f"slow {name}"]["paying"]["rate"] for each in rounds)
        calls = statistics.median(each[f"slow {name}"]["calls"] for each in rounds)
        rows.append(row(f"{label}, round trips to the chain a payment", calls, ""))
        rows.append(row(f"{label}, paid meanwhile, {SLOW * 1000:.0f} ms a call", paying, "req/s"))
    how = {"rounds": options.rounds, "seconds": options.seconds, "look_first": options.look_first, "cpus": os.cpu_count()}
    return {"rows": rows, "how": how, "versions": _versions(), "rounds": rounds}


def _versions() -> Result:
    """Return the versions of what both sides have in common, and where they differ."""
    asked = "import importlib.metadata as m, sys; print(sys.version.split()[0], *[m.version(n) for n in sys.argv[1:]])"
    theirs = subprocess.run([str(PEER), "-c", asked, *SAME, "x402"], check=True, capture_output=True, text=True).stdout.split()
    own = [name for name in SAME if name not in BORROWED]
    ours = subprocess.run([sys.executable, "-c", asked, *own], check=True, capture_output=True, text=True).stdout.split()
    official = dict(zip(("python", *SAME, "x402"), theirs, strict=True))
    differing = {name: version for name, version in zip(("python", *own), ours, strict=True) if official[name] != version}
    return {"official": official, "ours differs in": differing}


def _print(result: Result) -> None:
    for row in result["rows"]:
        value = f"{row['value']:10.3f}" if row["value"] < 100 else f"{row['value']:10,.0f}"
        line = f"{row['what']:58} {value} {row['unit']:6}"
        if "ratio" in row:
            line += f" {row['ratio']:8.3f} x {row['to']}"
        if "wanted" in row:
            line += f"  (wanted {row['wanted']}: {'yes' if row['met'] else 'NO'})"
        print(line.rstrip())
    if differing := result["versions"]["ours differs in"]:
        print(f"versions differ, ours: {differing}, official: {result['versions']['official']}")


# ----------------------------------------------------------------------------------------------------------- the profile


def _profile(course: Course, servers: dict[str, Server], where: Path) -> None:
    """Profile the event loop's thread while payments come in, and while nobody pays; write both orders of each.

    ``inline`` is the SQLite ledger called in that thread, so that the profile sees what it does.
    """
    where.mkdir(parents=True, exist_ok=True)
    for server in servers.values():
        server.ready()
        course.paid(server, course.connections, seconds=1.0)
    for name, server in servers.items():
        told = _profiled(server, lambda server=server: course.paid(server, course.connections))  # type: ignore[misc]
        _write(where, name, f"{told['served']} payments", told)
    told = _profiled(servers["memory"], lambda: course.unpaid(servers["memory"]))
    _write(where, "unpaid", "402s only", told)


def _profiled(server: Server, run: Any) -> Result:
    before = server.bench("profile=1")["served"]
    run()
    told = server.bench("profile=0")
    return {**told, "served": told["served"] - before}


def _write(where: Path, name: str, what: str, told: Result) -> None:
    for order, text in told["profile"].items():
        short = re.sub(rf"/\S*/site-packages/|{re.escape(str(ROOT))}/", "", text)
        target = where / f"{name}-{order}.txt"
        target.write_text(f"{what}\n{short}")
        print(target)


if __name__ == "__main__":
    main()
