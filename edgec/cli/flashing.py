"""What `edgec flash` shows of one device while it is at work."""

from __future__ import annotations

from typing import Any

from edgec.cli.common import Output, size


class Progress:
    """One device's steps on a terminal's standard error: what it does, bytes of the transfer, how fast."""

    def __init__(self, out: Output) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._shown = self._console.is_terminal and not out.silent
        self._bars: Any = None
        self._task: Any = None
        self._sending = False

    def __enter__(self) -> Progress:
        if self._shown:
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            columns: list[Any] = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
            self._bars = Progress(
                *columns, TextColumn("{task.fields[bytes]}", markup=False), TimeElapsedColumn(),
                console=self._console, transient=True,
            )  # fmt: skip
            self._bars.start()
            self._task = self._bars.add_task("connecting", total=None, bytes="")
        return self

    def tell(self, step: str, done: int, total: int) -> None:
        """Show a step."""
        if self._bars is not None:
            text = ""
            if total:
                filled = round(24 * done / total)
                text = f"{'━' * filled}{'╌' * (24 - filled)} {size(done)} of {size(total)}"
            self._bars.update(self._task, description=step, bytes=text)

    def stop(self) -> None:
        """Take it away."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def __exit__(self, *_: object) -> None:
        self.stop()
