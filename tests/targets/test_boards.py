"""Board files: those that ship are complete and true to their form; a broken one says what is wrong with it."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from edgec_runtime.bundle.version import within
from edgec_runtime.errors import BadInputError, MissingError
from edgec_targets import board, boards, target_names

GOOD = """
title = "Mine"
target = "arm_cpu"
arch = "aarch64"
cpu = "Cortex-A55"
isa = ["asimd", "asimddp"]
cores = 2
memory = 1_073_741_824
source = "I measured it"
[engines]
onnxruntime = ">=1.20,<2"
"""


@pytest.mark.parametrize("name", sorted(boards()))
def test_a_shipped_board_is_complete(name: str) -> None:
    b = boards()[name]
    assert b.name == name
    assert b.title and b.cpu and b.source and b.isa and b.os and b.python
    assert b.cores >= 1 and b.memory and b.memory >= 2**29
    assert b.target in target_names()
    assert b.engines["onnxruntime"]
    if b.arch == "aarch64":
        assert "asimd" in b.isa and len(set(b.isa)) == len(b.isa)
        assert tuple(int(n) for n in b.glibc.split(".")) >= (2, 28), "onnxruntime's aarch64 wheels from 1.29 need it"


def test_spinning_is_off_on_small_boards_and_the_host_keeps_the_engines_defaults() -> None:
    for b in boards().values():
        if b.name == "host":
            assert (b.threads, b.spinning, b.arena) == (None, None, None)
        else:
            assert (b.spinning is False) == (b.cores <= 4), b.name
            assert b.threads is None or b.threads <= b.cores


def test_the_host_is_this_machine() -> None:
    host = board("host")
    assert host.arch == platform.machine()
    assert host.target == "host"
    assert host.cores >= 1 and host.python == ".".join(platform.python_version_tuple()[:2])


def test_armv8_0_boards_leave_out_the_release_that_dies_there() -> None:
    for b in boards().values():
        if b.arch == "aarch64":
            assert within("1.21.0", b.engines["onnxruntime"]) == ("asimddp" in b.isa), b.name


@pytest.mark.parametrize(
    ("asked", "near"), [("rpi6", "rpi"), ("raspberry-rpi5", ""), ("rk3588s", "rk3588"), ("../rpi5", "")]
)
def test_an_unknown_board_is_missing_and_names_its_neighbours(asked: str, near: str) -> None:
    with pytest.raises(MissingError) as e:
        board(asked)
    assert e.value.exit_code == 10
    assert asked in e.value.what and near in e.value.fix and "edgec boards" in e.value.fix


def test_a_users_board_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    b = board(str(path))
    assert (b.name, b.isa, b.threads, b.memory) == ("mine", ("asimd", "asimddp"), None, 2**30)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("cores = 2", "cores = 0"), "'cores' is 0"),
        (("cores = 2", "cores = true"), "'cores' is True"),
        (("cores = 2", 'cores = "2"'), "'cores' is '2'"),
        (("cores = 2", ""), "lacks cores"),
        (("cores = 2", "cores = 2\nmemroy = 1"), "unknown key 'memroy'"),
        (("aarch64", "arm64"), "'arch' is 'arm64'"),
        (('"asimddp"', '"asimd"'), "twice"),
        (('"asimddp"', '"ASIMD DP"'), "lower-case"),
        ((">=1.20,<2", "about 1.20"), "engines.onnxruntime"),
        ((">=1.20,<2", ""), "engines.onnxruntime"),
        (('onnxruntime = ">=1.20,<2"', ""), "'engines' is empty"),
        (("I measured it", " "), "source"),
        (("title =", "title"), "can't be read"),
        (("Mine", "\x00"), "can't be read"),
    ],
)
def test_a_broken_board_file_says_where(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(GOOD.replace(*change))
    with pytest.raises(BadInputError) as e:
        board(str(path))
    assert e.value.exit_code == 9
    assert says in e.value.what and str(path) in e.value.what


def test_a_typo_gets_the_right_key(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(GOOD.replace("memory", "memroy"))
    with pytest.raises(BadInputError, match="memroy") as e:
        board(str(path))
    assert "'memory'" in e.value.why


def test_no_file_and_no_utf8(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no board file"):
        board(str(tmp_path / "nothing.toml"))
    (tmp_path / "latin.toml").write_bytes(b'title = "\xe9"')
    with pytest.raises(BadInputError, match="can't be read"):
        board(str(tmp_path / "latin.toml"))
