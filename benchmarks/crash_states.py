"""Every crash state and every kill: the large enumeration behind docs/flash_power.md.

    python -m benchmarks.crash_states [--workers 2] [--seeds 1] [--scenario NAME …]

writes benchmarks/results/crash_states.json; with --scenario, those alone are run again and the others' rows kept.

`make test` has a few hundred subsets of each; this one has every scenario at full depth on both kinds of ext4, every
fault at every call, and the protocols that must be found bad. It needs root (`edgec_toolchains.crashlab`).
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from benchmarks.record import RESULTS, save
from edgec_toolchains.crashlab import FILE_SYSTEMS, obstacle
from tests.flash.crash_mutations import MUTATIONS
from tests.flash.crash_run import in_a_process
from tests.flash.crash_scenarios import SCENARIOS
from tests.flash.kill_faults import FAULTS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2, help="processes at a time")
    parser.add_argument("--seeds", type=int, default=1, help="how often subsets are drawn")
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), help="only this one (again)")
    arguments = parser.parse_args()
    wanted = arguments.scenario or list(SCENARIOS)
    if why := obstacle():
        print(f"the crash laboratory can't run here: {why}", file=sys.stderr)
        return 10
    with ThreadPoolExecutor(arguments.workers) as pool:
        crashes = {
            (name, system.name, seed): pool.submit(in_a_process, "crash_run", name, system.name, "all", "", str(seed))
            for name in wanted for system in FILE_SYSTEMS for seed in range(arguments.seeds)
        }  # fmt: skip
        controls = {
            (mutation, system.name): pool.submit(
                in_a_process, "crash_run", "third version", system.name, "few", mutation
            )
            for mutation in MUTATIONS if mutation for system in FILE_SYSTEMS
        }  # fmt: skip
        kills = {
            (name, fault): pool.submit(in_a_process, "kill_run", name, fault) for name in wanted for fault in FAULTS
        }
        more = {what: pool.submit(in_a_process, "kill_more", what) for what in ("loops", "full", "read-only")}
        figures = {
            "crash_states": [_crashes(found) for found in crashes.values()],
            "controls": [_crashes(found) for found in controls.values()],
            "kills": [_kills(name, fault, found) for (name, fault), found in kills.items()],
            "more": {what: _result(found) for what, found in more.items()},
        }
    if arguments.scenario:
        _keep_others(figures)
    states = sum(row["crashes"] for row in figures["crash_states"])
    bad = sum(row["bad"] for row in figures["crash_states"])
    cases = sum(row["cases"] for row in figures["kills"])
    failed = sum(row["bad"] for row in figures["kills"])
    figures["total"] = {
        "crash_states": states, "recovered": states - bad, "kill_cases": cases, "kill_cases_good": cases - failed,
        "controls_found": sum(row["bad"] > 0 for row in figures["controls"]), "controls": len(figures["controls"]),
    }  # fmt: skip
    path = save("crash_states", figures, kernel=platform.release(), command="python -m benchmarks.crash_states")
    print(f"{figures['total']}\n{path}")
    good = bad == failed == 0 and figures["total"]["controls_found"] == len(figures["controls"])
    return 0 if good else 1


def _keep_others(figures: dict[str, Any]) -> None:
    """Put the rows that were not run now before those that were."""
    known = json.loads((RESULTS / "crash_states.json").read_text())["figures"]
    for part in ("crash_states", "kills"):
        now = {row["scenario"] for row in figures[part]}
        figures[part] = [row for row in known[part] if row["scenario"] not in now] + figures[part]


def _result(found: Future[dict[str, Any]]) -> dict[str, Any]:
    return found.result()


def _crashes(future: Future[dict[str, Any]]) -> dict[str, Any]:
    found = future.result()
    row = {key: value for key, value in found.items() if key != "problems"}
    row["problems"] = {why.splitlines()[0][:120]: len(labels) for why, labels in found["problems"].items()}
    print(
        f"{row['scenario']:28}{row['file_system']:10}{row['mutation']:20}{row['crashes']:5} {row['bad']:4} bad",
        flush=True,
    )
    return row


def _kills(name: str, fault: str, future: Future[dict[str, Any]]) -> dict[str, Any]:
    found = future.result()
    print(f"{name:28}{fault:10}{len(found['cases']):5} {len(found['problems']):4} bad", flush=True)
    problems = {case: why[:200] for case, why in found["problems"].items()}
    return {"scenario": name, "fault": fault, "cases": len(found["cases"]), "bad": len(problems), "problems": problems}


if __name__ == "__main__":
    sys.exit(main())
