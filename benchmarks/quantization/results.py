"""benchmarks/results/quantization.json: rows by model, merged run by run, each with date, machine and versions."""

from __future__ import annotations

import datetime
import hashlib
import json
import platform
from pathlib import Path
from typing import Any

from edgec.measure.machine import this_machine

FILE = Path(__file__).parents[1] / "results" / "quantization.json"


def read() -> dict[str, Any]:
    """What is there; empty parts where nothing is, or where it is of the old form."""
    found: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    return {part: found.get(part, {}) if "rows" in found else {} for part in ("machines", "environments", "rows")}


def machine() -> tuple[str, dict[str, Any]]:
    """A short name for this machine with its Python, and what it stands for."""
    facts = this_machine().as_dict() | {"python": platform.python_version()}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8], facts


def merge(case: str, rows: dict[str, dict[str, Any]], environments: dict[str, Any], known: list[str]) -> dict[str, Any]:
    """Replaces the rows given, leaves the others, drops those that no recipe makes any more; writes the file.

    Args:
        case: the zoo's name.
        rows: by id.
        environments: by peer, what its installation took or why it failed.
        known: every id that recipes could give, in the table's order.
    """
    name, facts = machine()
    found = read()
    found["machines"][name] = facts
    found["environments"] |= environments
    stamp = {"date": datetime.date.today().isoformat(), "machine": name}
    merged = found["rows"].get(case, {}) | {identity: row | stamp for identity, row in rows.items()}
    found["rows"][case] = {identity: merged[identity] for identity in known if identity in merged}
    used = {row["machine"] for each in found["rows"].values() for row in each.values()}
    found["machines"] = {k: v for k, v in found["machines"].items() if k in used}
    FILE.write_text(json.dumps(found, indent=1, sort_keys=False) + "\n")
    return found
