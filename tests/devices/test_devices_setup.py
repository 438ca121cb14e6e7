"""Setting a device up, over a real OpenSSH server: fresh, again, through a link that is cut, and what is refused."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import pytest

from edgec.devices import Address
from edgec.devices.setup import Key, given, setup
from edgec.errors import BadInputError, UnsupportedError, UsageError
from edgec_runtime.trust import store
from edgec_toolchains.boards import Link, LocalBoard
from tests.devices import wheels

KEY = Key("0" * 64, "pem")


def put(wheel, **more):
    return asyncio.run(setup(Address.parse("pi"), **{"key": KEY, "wheel": wheel, **more}))[1]


def on(device, *command):
    """Run a command as the board's user would."""
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(device.home)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=device.home)


def test_a_bare_device_and_again(device, wheel):
    steps = []
    done = put(wheel, step=steps.append)
    assert done.sent == wheel.stat().st_size and done.before == "" and done.engine == "litert"
    assert done.root == f"{device.home}/edgec" and done.doctor["engines"]["litert"] == done.version
    assert steps[0] == "looking at the device" and "trying it there" in steps
    told = json.loads(on(device, done.launcher, "doctor", "--json").stdout)
    assert told["root"] == done.root and told["engines"]["litert"] == done.version
    where = on(device, "python3", "-c", "import edgec_runtime; print(edgec_runtime.__file__)").stdout
    assert where.startswith(f"{done.root}/runtime/")
    folder = device.home / "edgec" / "runtime" / done.id
    before = folder.stat().st_mtime_ns
    again = put(wheel)
    assert again.sent == 0 and again.before == done.id and folder.stat().st_mtime_ns == before


def test_through_a_link_that_is_cut(device, user, wheel):
    """The connection is lost in the middle of the transfer: it is made again, and the transfer goes on."""
    link = Link(device.port, cut=1_500_000)
    user.config(device.config("pi", link.port))
    user.known(device.known_host(link.port))
    steps = []
    done = put(wheel, step=steps.append)
    link.close()
    assert link.cuts == 1 and "the connection was lost: going on where it stopped" in steps
    assert 0 < done.sent < wheel.stat().st_size
    assert on(device, done.launcher, "--version").returncode == 0


def test_an_engine_that_does_not_work_there_changes_nothing(device, wheel, tmp_path):
    done = put(wheel)
    with pytest.raises(UnsupportedError) as error:
        put(wheels.broken(tmp_path))
    assert error.value.code == "E411" and error.value.exit_code == 4
    assert os.readlink(device.home / "edgec" / "runtime" / "current") == done.id
    assert {p.name for p in (device.home / "edgec" / "runtime").iterdir()} == {"current", done.id}
    assert on(device, done.launcher, "--version").returncode == 0


def test_a_check_that_fails_changes_nothing(device, wheel, tmp_path):
    (tmp_path / "bad.edge").write_bytes(b"no bundle")
    with pytest.raises(UnsupportedError, match="selftest fails"):
        put(wheel, check=lambda found, engine: tmp_path / "bad.edge")
    assert not (device.home / "edgec" / "runtime" / "current").exists()


def test_what_stops_is_said_before_anything_is_sent(server, user, tmp_path, wheel):
    """A board whose PATH has no Python."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "cat", "head", "uname", "getconf", "dd", "od", "tr", "df", "ls", "date", "id", "nproc"):
        found = subprocess.run(["/bin/sh", "-c", f"command -v {name}"], capture_output=True, text=True).stdout.strip()
        if found:
            (tools / name).symlink_to(found)
    with LocalBoard(server, tmp_path / "board", path=str(tools)) as board:
        user.config(board.config("pi"))
        user.known(board.known_host())
        with pytest.raises(UnsupportedError, match="it has no Python") as error:
            put(wheel, root="~/edgec")
        assert error.value.exit_code == 4 and "apt install python3" in error.value.fix
        assert list(board.home.iterdir()) == []


def test_too_little_room_is_said_before_anything_is_sent(device, wheel, monkeypatch):
    monkeypatch.setattr("edgec.devices.setup.SPARE", 1 << 60)
    with pytest.raises(UnsupportedError, match="too little room"):
        put(wheel)
    assert list(device.home.iterdir()) == []


def test_a_root_with_a_strange_name(device, wheel):
    done = put(wheel, root="~/a b's $x")
    assert done.root == f"{device.home}/a b's $x" and on(device, done.launcher, "--version").returncode == 0
    assert not (device.home / "edgec").exists()


@pytest.mark.parametrize("root", ["/", "a\nb", "~"])
def test_a_root_that_is_none(user, root):
    with pytest.raises(UsageError):
        asyncio.run(setup(Address("nowhere"), key=KEY, root=root))


def test_wheels_that_are_none(tmp_path, wheel):
    other = "aarch64" if os.uname().machine == "x86_64" else "x86_64"
    with pytest.raises(BadInputError, match="is for manylinux"):
        given(wheel, other)
    (tmp_path / "a-1.whl").write_bytes(b"")
    for path in (tmp_path / "a-1.whl", tmp_path / "no.whl"):
        with pytest.raises(BadInputError) as error:
            given(path, other)
        assert error.value.code == "E918"


def test_the_commands(device, wheel, user, tmp_path):
    """add, probe, setup, list, remove, as a person types them."""
    environment = {**os.environ}
    call = [sys.executable, "-m", "edgec", "devices"]

    def edgec_devices(*arguments, code=0):
        done = subprocess.run([*call, *map(str, arguments)], capture_output=True, text=True, env=environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    assert "next: edgec devices probe kitchen" in edgec_devices("add", "pi", "--name", "kitchen", "-t", "host")
    file = tmp_path / "boards" / "mine.toml"
    assert f"edgec compile model.onnx -t {file}" in edgec_devices("probe", "kitchen", "-o", file)
    assert edgec_devices("probe", "kitchen") == file.read_text()
    told = json.loads(edgec_devices("setup", "kitchen", "--wheel", wheel, "--json"))
    assert told["sent"] == wheel.stat().st_size and told["doctor"]["trusted_keys"] == [told["key_id"]]
    trusted = store.load_trusted(str(device.home / "edgec" / "trust"))
    assert list(trusted) == [told["key_id"]]
    listed = json.loads(edgec_devices("list", "--json"))["devices"][0]
    assert (listed["name"], listed["board"], listed["installed"]["engine"]) == ("kitchen", "host", "litert")
    assert listed["probe"]["machine"] == os.uname().machine
    assert "nothing on it was changed" in edgec_devices("remove", "kitchen")
    user.known("")
    assert "error[E1101]" in edgec_devices("probe", "pi", code=11)
    assert "error[E1010]" in edgec_devices("setup", "pi", "--key", "nobody", code=10)
    assert "no place beside --wheel" in edgec_devices("setup", "pi", "--wheel", wheel, "--engine", "litert", code=2)
