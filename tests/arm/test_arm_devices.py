"""`edgec devices` against a board whose commands run on an emulated core: a real OpenSSH server, the aarch64 wheel.

The board is a Raspberry Pi 3 as far as anything on it can tell: BusyBox and Python for aarch64 under QEMU, the
Cortex-A53's /proc/cpuinfo, the device tree's model.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgec.errors import Error
from edgec_targets import registry
from edgec_toolchains import aarch64
from edgec_toolchains.boards import LocalBoard, emulated, prepare, server

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pi3(core, tmp_path_factory):
    """The board, and a user who reaches it as `pi3`: (board, environment of the user's commands)."""
    where = Path(os.environ.get(server.VARIABLE) or ROOT / "build" / "boards")
    try:
        sshd, busybox = prepare(where), server.busybox(where)
    except Error as error:
        pytest.skip(f"no OpenSSH server: {error.what}: {error.why}")
    folder = tmp_path_factory.mktemp("pi3")
    shell, path = emulated.shell(
        folder / "emulated", core("cortex-a53"), busybox, model="Raspberry Pi 3 Model B Rev 1.2", memory=900 << 20
    )
    variables = {"EDGEC_ROOT": f"{folder}/board/home/edgec"}
    with LocalBoard(sshd, folder / "board", shell=shell, path=path, environment=variables) as board:
        home = folder / "user"
        (home / ".ssh").mkdir(parents=True)
        (home / ".ssh" / "config").write_text(board.config("pi3"))
        (home / ".ssh" / "known_hosts").write_text(board.known_host())
        names = {name: str(home / name.lower()) for name in ("EDGEC_CONFIG", "EDGEC_CACHE", "EDGEC_ROOT")}
        environment = {**os.environ, **names, "HOME": str(home)}
        environment.pop("SSH_AUTH_SOCK", None)
        kept = home / "edgec_cache" / "wheelhouse"
        kept.mkdir(parents=True)
        for wheel in (Path(os.environ[aarch64.VARIABLE]) / "wheels" / "downloads").absolute().glob("*.whl"):
            shutil.copyfile(wheel, kept / wheel.name)
        yield board, environment


def edgec(pi3, *arguments, code=0):
    command = [sys.executable, "-m", "edgec", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=pi3[1])
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_a_probe_says_what_it_is(pi3, tmp_path):
    path = tmp_path / "mine.toml"
    told = edgec(pi3, "devices", "probe", "pi3", "-o", path)
    assert "edgec knows it: rpi3" in told and "no dot products" in told
    found = registry.board(str(path))
    assert (found.arch, found.cpu, found.target) == ("aarch64", "Cortex-A53", "arm_cpu")
    assert found.title == "Raspberry Pi 3 Model B Rev 1.2" and found.memory == 900 << 20
    assert "asimddp" not in found.isa and set(found.engines) == {"litert", "ncnn", "onnxruntime", "tvm"}


def test_setup_puts_the_aarch64_wheel_there_and_it_computes(pi3):
    board, _ = pi3
    told = json.loads(edgec(pi3, "devices", "setup", "pi3", "--json"))
    assert (told["engine"], told["before"]) == ("litert", "") and told["doctor"]["arch"] == "aarch64"
    assert [each["result"] for each in told["selftest"]["payloads"]] == ["passed"]
    assert os.readlink(board.home / "edgec" / "runtime" / "current") == told["id"]
    again = json.loads(edgec(pi3, "devices", "setup", "pi3", "--json"))
    assert again["sent"] == 0 and again["before"] == again["id"] == told["id"]
