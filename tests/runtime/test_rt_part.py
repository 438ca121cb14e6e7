"""A member on its way, where the power was cut between its flush and its rename."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from edgec_runtime.slots.part import Part


def test_a_part_that_was_made_read_only_is_gone_on_with(tmp_path: Path) -> None:
    """`place` makes it read-only, flushes it, renames it. As root nobody would notice: root opens anything."""
    data = b"x" * 100
    digest = hashlib.sha256(data).hexdigest()
    left = tmp_path / f"{digest}.part"
    left.write_bytes(data)
    left.chmod(0o444)
    part = Part(str(tmp_path), digest, len(data))
    assert stat.S_IMODE(os.stat(left).st_mode) == 0o600
    assert part.have == len(data) and part.digest() == digest
    part.place(str(tmp_path / digest))
    assert stat.S_IMODE(os.stat(tmp_path / digest).st_mode) == 0o444
