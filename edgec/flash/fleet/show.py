"""What a person sees while many boards are flashed: a table that lives on a terminal, else a line when a board is done.

The table shows every board where there is room; else those under way and those that did not go well, and counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edgec.flash.fleet.boards import OK, UNREACHABLE, Attempt, Board, Outcome

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

BAR = 16  # columns
SPARE = 6  # lines of a terminal that are not boards
STYLE = {OK: "green", UNREACHABLE: "yellow"}  # of an outcome; the others are red
PER_SECOND = 8  # how often a terminal is drawn


class Lines:
    """For files and pipes: a line when a board is done. Given `say`, which prints one."""

    def __init__(self, say: Callable[[str, str | None], None]) -> None:
        self._say = say

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to take away."""

    def begun(self, board: Board, attempt: Attempt) -> None:
        """Nothing: what is done counts."""

    def step(self, board: Board, attempt: Attempt) -> None:
        """Nothing."""

    def ended(self, outcome: Outcome) -> None:
        """A line."""
        self._say(line(outcome), STYLE.get(outcome.state, "red"))

    def waits(self, outcome: Outcome, seconds: float) -> None:
        """A line: it may take long."""
        self._say(f"{outcome.board.name}: {outcome.words}; again in {seconds:.0f} s", "yellow")

    def wave(self, number: int, waves: int, boards: int, limit: int) -> None:
        """A line."""
        self._say(wave(number, waves, boards, limit), "bold")

    def halted(self, why: str) -> None:
        """A line."""
        self._say(f"halted: {why}", "red")


class Table(Lines):
    """For a terminal."""

    def __init__(self, console: Console, boards: Sequence[Board], title: str) -> None:
        super().__init__(lambda text, style: console.print(text, style=style, markup=False))
        self._console, self._boards, self._title, self._wave = console, boards, title, ""
        self._under: dict[str, Attempt] = {}
        self._waiting: dict[str, str] = {}
        self._done: dict[str, Outcome] = {}
        self._live: Live | None = None

    def __enter__(self) -> Table:
        from rich.live import Live

        self._live = Live(
            get_renderable=self.render, console=self._console, refresh_per_second=PER_SECOND, transient=True
        )
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def begun(self, board: Board, attempt: Attempt) -> None:
        """Its row moves."""
        self._waiting.pop(board.name, None)
        self._under[board.name] = attempt

    def ended(self, outcome: Outcome) -> None:
        """Its row stands still."""
        self._under.pop(outcome.board.name, None)
        self._done[outcome.board.name] = outcome

    def waits(self, outcome: Outcome, seconds: float) -> None:
        """Its row says so."""
        self._under.pop(outcome.board.name, None)
        self._waiting[outcome.board.name] = f"{outcome.words}; again in {seconds:.0f} s"

    def wave(self, number: int, waves: int, boards: int, limit: int) -> None:
        """In the title."""
        self._wave = wave(number, waves, boards, limit)

    def render(self) -> RenderableType:
        """The table as it is now."""
        from rich.console import Group
        from rich.table import Table as Grid
        from rich.text import Text

        done, under, waiting = dict(self._done), dict(self._under), dict(self._waiting)  # another thread draws
        room = max(3, self._console.height - SPARE)
        grid = Grid(box=None, pad_edge=False, show_header=False)
        for _ in range(3):
            grid.add_column(no_wrap=True, overflow="ellipsis")
        names = [board.name for board in self._boards]
        if len(names) > room:
            wrong = [n for n in names if n in done and done[n].state != OK]
            first, rest = wrong[-(room // 2) :], wrong[: -(room // 2)]
            names = [*first, *[n for n in names if n in under], *[n for n in names if n in waiting], *rest]
        for name in names[:room]:
            if name in under:
                attempt = under[name]
                grid.add_row(Text(name), Text(attempt.step or "begins"), Text(bar(attempt), style="cyan"))
            elif name in waiting:
                grid.add_row(Text(name), Text("waits", style="yellow"), Text(waiting[name]))
            elif name in done:
                outcome = done[name]
                style = STYLE.get(outcome.state, "red")
                grid.add_row(Text(name), Text(outcome.state, style=style), Text(outcome.words))
            else:
                grid.add_row(Text(name, style="dim"), Text("–", style="dim"), Text(""))
        more = [Text(f"… and {len(names) - room} more", style="dim")] if len(names) > room else []
        counted = counts([*done.values()])
        if under:
            counted.append(f"{len(under)} under way")
        if left := len(self._boards) - len(done) - len(under):
            counted.append(f"{left} to come")
        head = [Text(self._title, style="bold"), *([Text(self._wave)] if self._wave else [])]
        return Group(*head, Text(" · ".join(counted)), grid, *more)


def line(outcome: Outcome) -> str:
    """A board that is done, in a line."""
    took = f" ({outcome.seconds:.1f} s)" if outcome.state != UNREACHABLE else ""
    return f"{outcome.board.name}: {'' if outcome.state == OK else outcome.state + ': '}{outcome.words}{took}"


def counts(outcomes: Sequence[Outcome]) -> list[str]:
    """How many of each state, the good ones first."""
    found = Counter(outcome.state for outcome in outcomes)
    return [f"{found[state]:,} {state}" for state in (OK, "failed", "lost", "refused", UNREACHABLE) if found[state]]


def wave(number: int, waves: int, boards: int, limit: int) -> str:
    """A wave in words."""
    return (
        f"wave {number} of {waves}: up to {boards:,} device{'s' if boards != 1 else ''};"
        f" {limit:,} that fail{'s' if limit == 1 else ''} halt{'s' if limit == 1 else ''} it"
    )


def bar(attempt: Attempt) -> str:
    """Bytes of a step as a bar."""
    if not attempt.total:
        return ""
    part = min(1.0, attempt.done / attempt.total)
    filled = round(BAR * part)
    return f"{'━' * filled}{'╌' * (BAR - filled)} {part * 100:3.0f} % of {attempt.total / 1e6:.1f} MB"
