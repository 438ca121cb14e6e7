"""100,000 boards in this process: the rollout engine itself, on boards that are made up and a clock that jumps."""

from edgec.flash.fleet.simulate.scenario import Faults, Scenario
from edgec.flash.fleet.simulate.simulation import Result, simulate

__all__ = ["Faults", "Result", "Scenario", "simulate"]
