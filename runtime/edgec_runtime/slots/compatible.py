"""Whether callers of one version of an app can go on with another unawares: what `follow` asks before a swap."""

from __future__ import annotations

from edgec_runtime.signature import NAMELESS, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    Tensors = Sequence[Mapping[str, Any]]


def change(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What callers of the manifest `old` would notice of `new`, in words; empty where nothing.

    Inputs and outputs have the same names, dtypes and ranks, and the same pre- and post-processing. Whatever sizes the
    old inputs took, the new ones take: a fixed size may become a free one. Outputs' sizes that both fix are the same.
    """
    for side in ("inputs", "outputs"):
        found = _tensors(side, old[side], new[side])
        if found:
            return found
    for steps in ("preprocessing", "postprocessing"):
        if old[steps] != new[steps]:
            return f"its {steps} is another"
    return ""


def _tensors(side: str, old: Tensors, new: Tensors) -> str:
    had, has = ({tensor["name"]: tensor for tensor in tensors} for tensors in (old, new))
    if had.keys() != has.keys():
        return f"its {side} are {', '.join(map(repr, has))}; they were {', '.join(map(repr, had))}"
    tied: dict[str, int | str] = {}  # a name of the new version's sizes -> the old size wherever it stands
    for name, was in had.items():
        tensor = has[name]
        same = was["dtype"] == tensor["dtype"] and len(was["shape"]) == len(tensor["shape"])
        if not same or not all(_fits(side, *sizes, tied) for sizes in zip(was["shape"], tensor["shape"])):
            now, before = text(tensor["dtype"], tensor["shape"]), text(was["dtype"], was["shape"])
            return f"its {side[:-1]} {name!r} is {now}; it was {before}"
    return ""


def _fits(side: str, was: int | str, now: int | str, tied: dict[str, int | str]) -> bool:
    if side == "outputs":
        return was == now or isinstance(was, str) or isinstance(now, str)
    if isinstance(now, int):
        return was == now
    if now in NAMELESS or now not in tied:
        tied[now] = was
        return True
    # Sizes of one name must be equal: no trouble where the old version's were, by a name or by a number.
    return tied[now] == was and was not in NAMELESS
