"""What goes wrong in a simulated rollout, and how large the fleet is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgec.flash.fleet.policy import Policy, Share

KINDS = {"rpi4": 0.5, "rpi5": 0.3, "orin-nano": 0.12, "imx8mp": 0.06, "rpi3": 0.02}  # parts of the fleet
SIMULATED = Policy(canary=Share.parse("1%"), at_once=500, attempts=6, backoff=60.0, longest=3600.0, rounds=3)


@dataclass(frozen=True)
class Faults:
    """Chances, each of its own.

    Attributes:
        offline: a board is switched off when it is first called; it comes back after `away` seconds on average
            (exponential), with the chance `gone` never.
        cut: a connection is lost on the way, at a random byte.
        cut_trial: the connection is lost while the board tries the bundle; the board goes on alone.
        bad_hardware: a board rolls any bundle back, whatever it is.
        breaks: the bundle is rolled back by a board of that kind ("" for any kind).
        crashes: the bundle makes a board unreachable for good where it is tried.
        refuses: a board refuses the bundle before it tries it (no room, no payload).
        kills: how often the host's process is killed, at random times; its clock jumps each time.
    """

    offline: float = 0.0
    away: float = 3600.0
    gone: float = 0.0
    cut: float = 0.0
    cut_trial: float = 0.0
    bad_hardware: float = 0.0
    breaks: Mapping[str, float] = field(default_factory=dict)
    crashes: float = 0.0
    refuses: float = 0.0
    kills: int = 0


@dataclass(frozen=True)
class Scenario:
    """A fleet and what goes wrong.

    Attributes:
        boards: how many; kinds: their parts.
        faults, policy: what goes wrong, and how it is rolled out.
        size: bytes that go to each board; rate: bytes per second of its link; trial: seconds of its health check.
        seed: of everything that is drawn.
    """

    boards: int = 100_000
    kinds: Mapping[str, float] = field(default_factory=lambda: dict(KINDS))
    faults: Faults = Faults()
    policy: Policy = SIMULATED
    size: int = 5_000_000
    rate: float = 1_000_000.0
    trial: float = 3.0
    seed: int = 0
