"""The store: finished trials survive, two processes share it, a damaged file is set aside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgec.quantize.search.store import Store, default_path, digest


def test_trials_survive_a_new_start(tmp_path: Path) -> None:
    store = Store(tmp_path / "deep" / "s.sqlite")
    store.put("a", "noise", {"noise": 0.25, "half": None})
    store.put_model("m", b"\0\1")
    store.close()
    again = Store(tmp_path / "deep" / "s.sqlite")
    assert again.get("a") == {"noise": 0.25, "half": None}
    assert again.get("b") is None
    assert again.model("m") == b"\0\1"
    again.forget(["m"])
    assert again.model("m") is None and again.get("a") is not None
    again.close()


@pytest.mark.parametrize("damage", [b"this is no database at all, but text", b""])
def test_a_damaged_file_is_set_aside(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "s.sqlite"
    path.write_bytes(damage)
    said: list[str] = []
    store = Store(path, said.append)
    store.put("a", "noise", 1)
    assert store.get("a") == 1
    store.close()
    if damage:
        assert "set aside" in said[0] and (tmp_path / "s.sqlite.damaged-1").read_bytes() == damage
    else:
        assert said == []  # an empty file is a new database


def test_damage_in_the_middle_is_found_and_costs_only_the_trials(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    store = Store(path)
    for i in range(300):
        store.put(f"{i:064x}", "noise", {"noise": float(i), "filler": "x" * 200})
    store.close()
    content = bytearray(path.read_bytes())
    content[4096 : len(content) - 4096] = b"\xa5" * (len(content) - 8192)
    path.write_bytes(bytes(content))
    said: list[str] = []
    store = Store(path, said.append)
    assert store.get(f"{7:064x}") is None
    store.put("a", "noise", 1)
    assert store.get("a") == 1
    assert any("set aside" in text for text in said)
    store.close()


def test_a_place_that_can_t_be_written_means_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said: list[str] = []
    store = Store(tmp_path / "file" / "s.sqlite", said.append)
    store.put("a", "noise", 1)
    assert store.get("a") == 1
    assert "memory" in said[0]
    store.close()


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    program = (
        "import sys\nfrom pathlib import Path\nfrom edgec.quantize.search.store import Store\n"
        "store = Store(Path(sys.argv[1]))\n"
        "for i in range(25): store.put(f'{sys.argv[2]}{i}', 'noise', i)\nstore.close()\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(path), name]) for name in "ab"]
    assert [p.wait(timeout=120) for p in running] == [0, 0]
    store = Store(path)
    assert all(store.get(f"{name}{i}") == i for name in "ab" for i in range(25))
    store.close()


def test_the_cache_folder_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path))
    assert default_path() == tmp_path / "search.sqlite"


def test_keys_know_values_not_their_order() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})
