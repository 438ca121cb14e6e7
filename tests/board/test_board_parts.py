"""Parts of a virtual board that need no emulator: archives, keys, the order of modules, settings, what is refused."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.devices import inventory, owned, virtual
from edgec.devices.address import Address
from edgec.errors import BadInputError, MissingError, UnsupportedError, UsageError
from edgec_toolchains.boards import virtual as boards
from edgec_toolchains.boards.virtual import board, cpio, disk, keys, machine, system
from tests.command import edgec

NAMES = st.text("abcxyz019_-", min_size=1, max_size=12)


def unpack(data: bytes) -> dict[str, tuple[int, bytes]]:
    """A second reading of the format, from the kernel's documentation: name -> (mode, data)."""
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = data[at + 110 : at + 110 + fields[11] - 1].decode()
        body = (at + 110 + fields[11] + 3) & ~3
        if name == "TRAILER!!!":
            assert not data[body:].strip(b"\0")
            return found
        assert fields[2] == fields[3] == 0  # root's
        assert name not in found
        found[name] = (fields[1], data[body : body + fields[6]])
        at = (body + fields[6] + 3) & ~3


@given(st.dictionaries(st.tuples(NAMES, NAMES), st.tuples(st.binary(max_size=99), st.sampled_from([0o644, 0o755]))))
def test_an_archive_holds_what_went_in(files: dict[tuple[str, str], tuple[bytes, int]]) -> None:
    entries = {f"d/{a}/{b}": cpio.file(data, mode) for (a, b), (data, mode) in files.items()}
    made = cpio.archive(entries)
    assert len(made) % 512 == 0 and made == cpio.archive(dict(reversed(entries.items())))
    found = unpack(made)
    assert {name: e for name, e in found.items() if e[0] & 0o040000 != 0o040000} == {
        name: (entry.mode, entry.data) for name, entry in entries.items()
    }
    for name in entries:  # every folder stands before what is in it
        order = list(found)
        assert order.index(name.rpartition("/")[0]) < order.index(name)


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../b"])
def test_an_archive_takes_no_path_outside(path: str) -> None:
    with pytest.raises(ValueError, match="inside"):
        cpio.archive({path: cpio.file(b"")})


def test_a_host_key_is_dropbears_and_known_hosts() -> None:
    private, line = keys.generate()
    kind, _, text = line.partition(" ")
    public = base64.b64decode(text)[-32:]
    assert kind == "ssh-ed25519"
    assert private == b"\0\0\0\x0bssh-ed25519\0\0\0\x40" + private[19:51] + public
    with pytest.raises(ValueError, match="32"):
        keys.dropbear(b"short", public)


def test_modules_are_loaded_after_what_they_need() -> None:
    needs = {"net": ("failover", "core"), "failover": ("core",), "core": (), "block": ("core", "built_in")}
    assert system._ordered(["net", "block", "not_there"], needs) == ["core", "failover", "net", "block"]
    assert system._needs(b"x\0license=GPL\0depends=virtio-ring,virtio\0name=y\0") == ("virtio_ring", "virtio")
    assert system._needs(b"\0depends=\0") == ()


def test_a_process_that_took_its_number_is_not_the_board(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        real = psutil.Process(process.pid).create_time()  # type: ignore[no-untyped-call]
        for started, same in ((real, True), (real - 60, False)):
            (tmp_path / "machine.json").write_text(json.dumps({"pid": process.pid, "started": started}))
            assert (machine.running(tmp_path) is not None) is same
        assert not machine.cut(tmp_path)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    for text in ("", "{}", "[]", '{"pid": "x"}'):
        (tmp_path / "machine.json").write_text(text)
        assert machine.running(tmp_path) is None


def test_an_emulator_that_ends_is_told_with_its_words(tmp_path: Path) -> None:
    process = machine.start(tmp_path, ["/bin/sh", "-c", "echo no such machine >&2; exit 3"], dict(os.environ))
    with pytest.raises(UnsupportedError, match="no such machine") as caught:
        machine.wait(tmp_path, process, 1)
    assert caught.value.code == "E1052"


@pytest.mark.parametrize("text", ["", "{}", '{"name": "x", "cpu": "y", "port": "z"}', "[1]"])
def test_a_folder_that_holds_no_board_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "board.json").write_text(text)
    with pytest.raises(BadInputError) as caught:
        board.open(tmp_path)
    assert caught.value.code == "E1055"


def test_a_boards_settings_are_its_own_file(tmp_path: Path) -> None:
    key = tmp_path / "a folder" / "key"
    path = owned.write("edgec-x", port=2222, user="pi", key=key, host_key="ssh-ed25519 AAAA")
    assert owned.config("edgec-x") == path and owned.config("edgec-y") is None
    said = subprocess.run(["ssh", "-G", "-F", path, "edgec-x"], capture_output=True, text=True, check=True).stdout
    assert f"identityfile {key}" in said and "port 2222" in said and "stricthostkeychecking true" in said
    assert path.with_suffix(".known_hosts").read_text() == "[127.0.0.1]:2222 ssh-ed25519 AAAA\n"
    path.rename(path.with_name("pi.conf"))
    assert owned.config("pi") is None  # a user's own host is never taken for one of ours
    owned.remove("edgec-x")
    assert owned.config("edgec-x") is None


def test_what_is_not_there_is_told() -> None:
    with pytest.raises(MissingError) as missing:
        virtual.stop("kitchen")
    assert missing.value.code == "E1051"
    inventory.add(Address.parse("pi@10.0.0.7"), name="virtual", board="", now="2026-11-24T00:00:00+00:00")
    for wanted, code in ((("virtual", None), "E1053"), (("other", "cortex-a999"), "E1054"), (("../x", None), "E213")):
        with pytest.raises(UsageError) as refused:
            virtual.start(wanted[0], cpu=wanted[1], now="")
        assert refused.value.code == code
    assert edgec("devices", "virtual", "list", "--json").json == {"boards": []}


def test_a_devices_name_is_a_target() -> None:
    assert inventory.board("kitchen") == "kitchen"  # no inventory yet: none is made by asking
    assert not inventory.path().exists()
    inventory.add(Address.parse("pi@10.0.0.7"), name="kitchen", board="rpi4", now="2026-11-24T00:00:00+00:00")
    inventory.add(Address.parse("pi@10.0.0.8"), name="rpi5", board="rpi4", now="2026-11-24T00:00:00+00:00")
    assert inventory.board("kitchen") == "rpi4"
    assert inventory.board("rpi5") == "rpi5"  # a board's name is that board
    assert inventory.board("other.toml") == "other.toml"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("run", "--input", "x.npz"), "FILE"),
        (("run", "m.edge", "--app", "a", "--input", "x.npz"), "one of them"),
        (("run", "--app", "a", "--input", "x.npz"), "--on DEVICE"),
        (("run", "m.edge", "--on", "d", "--allow-unsigned", "--input", "x.npz"), "--allow-unsigned"),
    ],
)
def test_run_takes_no_flags_that_would_be_ignored(arguments: tuple[str, ...], word: str) -> None:
    said = edgec(*arguments)
    assert said.code == 2 and word in said.err


def test_the_systems_disk_is_roots_whoever_makes_it(
    image: boards.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mke2fs takes the owners that the files have here: without root they would be this user's."""
    folder = tmp_path / "a root"
    (folder / "etc").mkdir(parents=True)
    (folder / "etc" / "a file").write_bytes(b"x" * 5000)
    (folder / "bin").symlink_to("usr/bin")
    if os.geteuid() == 0:
        for path in (folder / "etc", folder / "etc" / "a file"):
            os.chown(path, 1234, 1234)
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    disk.system(image.tools, folder, tmp_path / "disk.ext4")
    said = image.tools.run("sbin/debugfs", ["-R", "ls -p /etc", tmp_path / "disk.ext4"])
    (line,) = [line.split("/") for line in said.splitlines() if "a file" in line]
    assert line[3:5] == ["0", "0"] and line[6] == "5000"
    image.tools.run("sbin/e2fsck", ["-fn", tmp_path / "disk.ext4"])
