"""The README as data: its code blocks by the marker before each, and its two commands on standard output.

``python -m tests.readme command demo`` (or ``test``) prints a command, for a shell to run: ``eval "$(...)"``.  A marker is an
HTML comment on the line directly before a block, ``<!-- readme: demo -->`` or ``<!-- run: server -->``; standard library only,
so that it runs before anything is installed.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
_FENCE = re.compile(r"^(`{3,}|~{3,})\s*(\w*)[^\n]*\n(.*?)^\1`*~*[ \t]*$", re.DOTALL | re.MULTILINE)
_MARKER = re.compile(r"<!-- (\w+): (\w+) -->")
_HEADING = re.compile(r"^#+ +(.*?)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: ``kind`` and ``name`` as its marker says, both empty without one; the nearest heading above it."""

    kind: str
    name: str
    language: str
    code: str
    heading: str


def blocks(text: str) -> tuple[Block, ...]:
    """Return every fenced block, in order."""
    found = []
    fences = list(_FENCE.finditer(text))
    headings = [each for each in _HEADING.finditer(text) if not any(f.start() < each.start() < f.end() for f in fences)]
    for fence in fences:
        above = text[: fence.start()].splitlines()
        marker = _MARKER.fullmatch(above[-1].strip()) if above else None
        kind, name = marker.groups() if marker else ("", "")
        heading = next((each[1] for each in reversed(headings) if each.start() < fence.start()), "")
        found.append(Block(kind, name, fence[2], fence[3], heading))
    return tuple(found)


def marked(text: str, kind: str, language: str) -> dict[str, Block]:
    """Return the blocks of one kind by name.  Raises: ValueError for a name that stands twice, or in another language."""
    found: dict[str, Block] = {}
    for block in blocks(text):
        if block.kind == kind:
            if block.name in found or block.language != language:
                raise ValueError(f"{kind}: {block.name} stands twice, or is not {language}")
            found[block.name] = block
    return found


def main(arguments: list[str]) -> int:
    """Print a command of the README."""
    commands = marked(README.read_text(encoding="utf-8"), "readme", "bash")
    if len(arguments) != 2 or arguments[0] != "command" or arguments[1] not in commands:
        sys.stderr.write(f"usage: python -m tests.readme command {{{','.join(commands)}}}\n")
        return 2
    sys.stdout.write(commands[arguments[1]].code)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
