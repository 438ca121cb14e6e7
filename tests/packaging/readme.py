"""README.md as a session in a shell: which commands it has, in which order, and a script that runs them.

The README's convention, which this test holds it to:

- In a ```console block, a line that starts with "$ " is a command, also where it ends with a backslash and goes on in
  the next line; all other lines are output and not compared. In a ```bash block each line is a command.
- The commands are one session in one shell, which starts in the clone. The block that begins with `git clone` is run
  first, wherever it stands (a README shows what it does before it says how to install it); the others follow in order.
  The `git clone` line itself is left out: the test has cloned.
- Each command succeeds.
- A block that starts a virtual board (`edgec devices virtual`) is left out here: `make test-board` runs it.
"""

from __future__ import annotations

import re

BLOCK = re.compile(r"^```(console|bash)[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)


def commands(markdown: str, *, board: bool = False) -> list[str]:
    """The commands of a README in the order in which they are run; `board`: those of the virtual board alone."""
    blocks: list[list[str]] = []
    for kind, body in BLOCK.findall(markdown):
        found: list[str] = []
        more = False
        for line in body.splitlines():
            if more:
                found[-1] += "\n" + line
            elif kind == "console" and line.startswith("$ "):
                found.append(line[2:])
            elif kind == "bash" and line.strip() and not line.startswith("#"):
                found.append(line)
            else:
                continue
            more = found[-1].endswith("\\")
        if board == any(line.startswith("edgec devices virtual") for line in found):
            blocks.append(found)
    blocks.sort(
        key=lambda block: not any(line.startswith("git clone") for line in block)
    )  # stable: only that one moves
    return [line for block in blocks for line in block if not line.startswith("git clone")]


def session(lines: list[str]) -> str:
    """A bash script that runs each command in the same shell and stops at the first that fails, naming it."""
    script = ["set -o pipefail"]
    for number, line in enumerate(lines, 1):
        script += [
            f"printf '%s s %s\\n' \"$SECONDS\" {_quoted(f'[{number}] $ {line}')}",
            "{",
            line,
            f"}} || {{ code=$?; echo 'command {number} failed with exit code' $code; exit 1; }}",
        ]
    return "\n".join(script) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
