"""Whom a device trusts after `edgec devices setup`, over a real OpenSSH server; and systemd's unit on the device."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
from pathlib import Path

import pytest

from edgec.devices import Address, setup
from edgec.errors import TrustError, UnreachableError
from edgec.trust import chain
from edgec_runtime.trust import rotate, store
from tests.command import edgec

NEVER = "2099-01-01T00:00:00Z"


@pytest.fixture
def versions(user):
    """Two versions of root metadata on this machine, 2 of 2 root keys."""
    for name in ("a", "b", "r", "r2"):
        assert edgec("keys", "new", name).code == 0
    for release in ("r", "r2"):
        chain.next_version(now=1_790_000_000, root_keys=["a", "b"], release_keys=[release], expires=NEVER)
    return chain.chain()


def put(wheel, *arguments, code=0):
    said = edgec("devices", "setup", "pi", "--wheel", wheel, "--json", *arguments)
    assert said.code == code, said.out + said.err
    return said.json if code == 0 else said.err


def test_root_metadata_is_pinned_then_followed(device, wheel, versions):
    """The first setup pins what --trust-root names; the next, by default, brings the device to the newest."""
    root = device.home / "edgec"
    told = put(wheel, "--trust-root", versions[0].path)
    assert (told["root_version"], told["key_id"]) == (1, "")
    assert sorted(os.listdir(root / "trust")) == ["root.dsse", "time"]
    # systemd's unit: here is no systemd, or the unit went into the board's own home.
    assert "no systemd" in told["note"] or told["unit"].startswith(str(device.home))
    # A single key beside it does not count, and the device's doctor says so.
    name, raw = next(iter(versions[0].root.root.items()))
    (root / "trust" / f"{name}.pem").write_bytes(store.to_pem(raw))
    told = put(wheel)
    assert told["root_version"] == 2 and told["sent"] == 0
    assert told["doctor"]["root_version"] == 1 and "don't count" in told["doctor"]["notes"][0]
    trusted = store.load_trusted(None, root=root)
    assert trusted.version == 2 and trusted == versions[1].root.release


def test_another_fleets_root_is_refused_and_nothing_changes(device, wheel, versions, tmp_path):
    root = device.home / "edgec"
    rotate.adopt([version.data for version in versions], root=root)
    os.environ["EDGEC_CONFIG"] = str(tmp_path / "strange")  # `user` sets it, and monkeypatch sets it back
    for name in ("x", "y"):
        assert edgec("keys", "new", name).code == 0
    made = chain.next_version(now=1_790_000_000, root_keys=["x"], release_keys=["y"], expires=NEVER)
    with pytest.raises(TrustError) as caught:
        rotate.adopt([made.data], root=root)
    assert caught.value.code == "E524"
    chain.next_version(now=1_790_000_000)
    assert "E520" in put(wheel, code=5)
    now = rotate.current(root=root)
    assert now is not None and now.envelope == versions[1].root.envelope
    assert not (root / "runtime" / "current").exists()


def test_root_metadata_that_is_not_complete_is_not_sent(device, wheel, versions, tmp_path):
    draft = tmp_path / "draft.dsse"
    value = json.loads(versions[0].data)
    draft.write_text(json.dumps({**value, "signatures": value["signatures"][:1]}))
    assert "E517" in put(wheel, "--trust-root", draft, code=5)
    assert "E515" in put(wheel, "--trust-root", wheel, code=5)
    assert "no place beside" in put(wheel, "--trust-root", draft, "--key", "a", code=2)
    assert list(device.home.iterdir()) == []


def test_a_host_whose_key_is_not_known_gets_nothing(device, user, wheel, versions):
    """Pinning is worth as much as the check of the host key."""
    user.known("")
    with pytest.raises(UnreachableError) as caught:
        asyncio.run(setup.setup(Address.parse("pi"), key=setup.NO_KEY, chain=[versions[0].data], wheel=wheel))
    assert caught.value.code == "E1101" and list(device.home.iterdir()) == []


def test_what_the_device_says_of_a_chain_is_told(device, wheel, versions):
    """A chain with a hole: the error is the device's own, with its code."""
    rotate.pin(versions[0].data, root=device.home / "edgec")
    for now in (1_790_000_001, 1_790_000_002):
        chain.next_version(now=now, expires=NEVER)
    with pytest.raises(TrustError) as caught:
        asyncio.run(setup.setup(Address.parse("pi"), key=setup.NO_KEY, chain=[chain.chain()[3].data], wheel=wheel))
    assert caught.value.code == "E519" and "What ran before still runs" in caught.value.fix


# systemd's unit


TEXT = "[Unit]\nDescription=x\n[Service]\nExecStart=/r/bin/edgec-rt recover\n[Install]\nWantedBy=default.target\n"


@pytest.fixture
def receive(tmp_path, monkeypatch):
    """The program of the device, on one with systemd: nothing of this machine's is touched."""
    spec = importlib.util.spec_from_file_location("receive_units", setup.RECEIVE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "systemd").mkdir()
    (tmp_path / "linger").mkdir()
    monkeypatch.setattr(module, "SYSTEMD", str(tmp_path / "systemd"))
    monkeypatch.setattr(module, "LINGER", str(tmp_path / "linger"))
    monkeypatch.setattr(module, "SYSTEM_UNITS", str(tmp_path / "etc"))
    monkeypatch.setattr(module, "reload", lambda of_system: None)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return module


def order(root: Path) -> dict:
    return {"root": str(root), "units": {"user": TEXT, "system": TEXT.replace("default", "multi-user")}}


def test_a_users_unit(receive, tmp_path):
    given = order(tmp_path / "home" / "edgec")
    done = receive.main("unit", given)
    path = tmp_path / "home" / ".config" / "systemd" / "user" / "edgec-recover.service"
    assert done["unit"] == str(path) and path.read_text() == TEXT and done["enabled"]
    link = path.parent / "default.target.wants" / "edgec-recover.service"
    assert os.readlink(link) == str(path)
    assert f"loginctl enable-linger {receive.user()}" in done["note"]
    (tmp_path / "linger" / receive.user()).touch()
    assert receive.main("unit", given) == {**done, "note": ""}


@pytest.mark.skipif(os.geteuid() != 0, reason="a system's unit is root's")
def test_the_systems_unit(receive, tmp_path):
    done = receive.main("unit", order(tmp_path / "var"))
    path = tmp_path / "etc" / "edgec-recover.service"
    assert done == {"unit": str(path), "enabled": True, "note": ""}
    assert os.readlink(tmp_path / "etc" / "multi-user.target.wants" / "edgec-recover.service") == str(path)


def test_where_there_is_no_systemd(receive, tmp_path):
    os.rmdir(tmp_path / "systemd")
    done = receive.main("unit", order(tmp_path / "home" / "edgec"))
    assert done["unit"] == "" and "no systemd" in done["note"]
    assert not (tmp_path / "home" / ".config").exists()


def test_a_system_that_says_what_recovers_needs_no_unit(receive, tmp_path, monkeypatch):
    monkeypatch.setattr(receive, "RECOVERS", str(tmp_path / "recovers"))
    (tmp_path / "recovers").write_text("/etc/init.d/S90edgec\nmore\n")
    done = receive.main("unit", order(tmp_path / "home" / "edgec"))
    assert done == {"unit": "/etc/init.d/S90edgec", "enabled": True, "note": ""}
    assert not (tmp_path / "home" / ".config").exists()
