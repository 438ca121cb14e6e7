"""A file takes the place of a file, and of nothing else."""

import os
import stat
from pathlib import Path

import pytest

from edgec.bundle.atomic import replacing
from edgec.errors import BadInputError


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_stays_what_it_is(tmp_path: Path, kind: str) -> None:
    """Renaming over /dev/full put a regular file in its place."""
    path = tmp_path / "there"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    before = stat.S_IFMT(path.stat().st_mode)
    with pytest.raises(BadInputError, match="can't be written"), replacing(path) as (file, _):
        file.write(b"x")
    assert stat.S_IFMT(path.stat().st_mode) == before and os.listdir(tmp_path) == ["there"]


def test_an_old_file_is_replaced(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"1")
    with replacing(old) as (file, _):
        file.write(b"2")
    assert old.read_bytes() == b"2"
