"""Which payload of an installed app this board prefers: measured here, kept as two lines of the app's state.

    prefer onnxruntime-float32-rpi4     the payload that was fastest
    prefer-cpu ARM Cortex-A72           where: another CPU is another measurement

One atomic write of the state changes it, and loading reads the state anyway. A preference moves one payload to the
front; whether this machine can use it is asked as ever, so a stale one costs speed and nothing else.
"""

from __future__ import annotations

from edgec_runtime.slots.state import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

PAYLOAD, CPU = "prefer", "prefer-cpu"
LONGEST = 512  # characters of an id or a CPU's name: the state is a small record


def storable(text: str) -> bool:
    """Whether a payload's id can stand in a line of the state."""
    return 0 < len(text) <= LONGEST and text.isascii() and text.isprintable()


def of(state: State) -> tuple[str, str]:
    """The preferred payload's id and the CPU it was measured on; empty where nothing was measured."""
    lines = dict(state.more)
    return lines.get(PAYLOAD, ""), lines.get(CPU, "")


def lines(state: State, payload: str, cpu: str) -> tuple[tuple[str, str], ...]:
    """`state.more` with another preference; an empty payload takes it away."""
    kept = tuple((name, value) for name, value in state.more if name not in (PAYLOAD, CPU))
    return (*kept, (PAYLOAD, payload), (CPU, cpu or "?")) if payload else kept


def surviving(state: State, payloads: Iterable[str], cpu: str) -> tuple[tuple[str, str], ...]:
    """`state.more` for a new version of the app: what was preferred stays so on the same CPU, if it is there.

    A new version's payload has the same id where it is for the same board, engine and precision.
    """
    payload, where = of(state)
    return state.more if payload in set(payloads) and where == cpu else lines(state, "", "")


def ordered(payloads: Sequence[Mapping[str, Any]], payload: str) -> list[Mapping[str, Any]]:
    """The payloads with the preferred one first."""
    return sorted(payloads, key=lambda entry: entry["id"] != payload)  # stable
