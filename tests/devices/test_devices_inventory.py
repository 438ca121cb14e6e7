"""The inventory of devices: what is kept, what is refused."""

from __future__ import annotations

import sqlite3
import threading

import pytest

from edgec.devices import inventory
from edgec.devices.address import Address
from edgec.errors import BadInputError, MissingError, UsageError

PI = Address("10.0.0.7", "pi")
NOW = "2026-11-24T15:00:00+00:00"


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEC_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


def test_add_find_remove(config):
    assert inventory.devices() == []
    made = inventory.add(PI, name="kitchen", board="rpi3", now=NOW)
    assert (made.address, made.board, made.probed) == ("pi@10.0.0.7", "rpi3", "")
    assert inventory.get("kitchen") == inventory.get("pi@10.0.0.7") == made
    assert inventory.resolve("kitchen") == PI and inventory.resolve("x@y:3") == Address("y", "x", 3)
    assert inventory.remove("kitchen") == made and inventory.devices() == []
    assert inventory.path() == config / "devices.sqlite"


@pytest.mark.parametrize("name, address", [("kitchen", Address("other")), ("other", PI)])
def test_names_and_addresses_are_unique(name, address):
    inventory.add(PI, name="kitchen", board="", now=NOW)
    with pytest.raises(UsageError, match="there is a device 'kitchen'"):
        inventory.add(address, name=name, board="", now=NOW)


def test_what_is_not_there():
    with pytest.raises(MissingError) as error:
        inventory.remove("nothing")
    assert error.value.exit_code == 10
    with pytest.raises(UsageError):
        inventory.add(PI, name="../x", board="", now=NOW)


def test_a_probe_and_a_setup_are_remembered():
    inventory.note(PI, now=NOW, probe={"cpu": "Cortex-A53"}, board="rpi3")  # not in the inventory: nothing
    inventory.add(PI, name="a", board="", now=NOW)
    inventory.note(PI, now=NOW, probe={"cpu": "Cortex-A53"}, board="rpi3")
    inventory.note_setup(PI, {"engine": "litert"})
    inventory.note(PI, now=NOW, probe={"cpu": "Cortex-A76"}, board="rpi5")  # a board that is known stays
    found = inventory.get("a")
    assert (found.board, found.probe, found.installed) == ("rpi3", {"cpu": "Cortex-A76"}, {"engine": "litert"})


def test_several_at_once():
    def work(number):
        inventory.add(Address(f"h{number}"), name=f"d{number}", board="", now=NOW)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inventory.devices()) == 8


@pytest.mark.parametrize("break_it", ["text", "newer", "folder"])
def test_a_file_that_is_none(config, break_it):
    config.mkdir()
    path = config / "devices.sqlite"
    if break_it == "folder":
        path.mkdir()
    elif break_it == "text":
        path.write_text("no database, but long enough to be one " * 50)
    else:
        with sqlite3.connect(path) as store:
            store.execute("PRAGMA user_version = 99")
    with pytest.raises(BadInputError) as error:
        inventory.devices()
    assert error.value.code == "E917"
