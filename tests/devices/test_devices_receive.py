"""The program that setup runs on the device: wherever it is cut off, what ran before runs; the next run completes."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgec.devices import setup
from tests.devices import wheels

CUTS = ("fsync", "replace", "rename", "symlink", "unlink")


class Cut(BaseException):
    """The power goes."""


def load():
    spec = importlib.util.spec_from_file_location("receive_under_test", setup.RECEIVE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two versions of a wheel."""
    folder = tmp_path_factory.mktemp("wheels")
    return [wheels.broken(folder / str(n), bytes(n), small=True) for n in (1, 2)]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr("site.ENABLE_USER_SITE", False)
    # Flushing a disk takes longest, and a cut is made by hand here.
    monkeypatch.setattr("compileall.compile_dir", lambda *a, **k: True)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    return tmp_path / "root"


def order(root: Path, wheel: Path) -> dict:
    return {
        "root": str(root), "id": setup.given(wheel, os.uname().machine).id, "wheel": str(root / "stage" / "w.whl"),
        "key_id": "k", "pem": "pem", "python": sys.executable,
    }  # fmt: skip


def put(receive, root, wheel, actions=("state", "unpack", "activate")):
    given = order(root, wheel)
    done = {}
    for action in actions:
        if action == "unpack":
            shutil.copyfile(wheel, given["wheel"])
        done[action] = receive.main(action, given)
    return given["id"], done


def runs(root: Path) -> str:
    """The version that runs; it must be whole."""
    name = os.readlink(root / "runtime" / "current")
    assert load().whole(str(root / "runtime" / name))
    return name


def test_one_version_after_the_other(root, two):
    receive = load()
    first, done = put(receive, root, two[0])
    assert runs(root) == first and done["activate"]["before"] == "" and done["unpack"]["fresh"]
    assert (root / "trust" / "k.pem").read_text() == "pem" and not (root / "stage" / "w.whl").exists()
    again, done = put(receive, root, two[0])
    assert again == first and not done["unpack"]["fresh"] and done["state"] == {
        "current": first, "complete": True, "trusted": ["k"],
    }  # fmt: skip
    second, done = put(receive, root, two[1])
    assert runs(root) == second and done["activate"]["before"] == first
    assert {p.name for p in (root / "runtime").iterdir()} == {"current", first, second}


def test_a_version_that_did_not_work_is_taken_away_and_the_current_one_is_not(root, two):
    receive = load()
    first, _ = put(receive, root, two[0])
    second, _ = put(receive, root, two[1], ("state", "unpack", "discard"))
    assert runs(root) == first and not (root / "runtime" / second).exists()
    receive.main("discard", order(root, two[0]))
    assert runs(root) == first


def test_a_damaged_version_is_mended(root, two):
    receive = load()
    first, _ = put(receive, root, two[0])
    library = root / "runtime" / first / "edgec_runtime" / "lib" / "libLiteRt.so"
    library.write_bytes(b"damaged")
    assert receive.main("state", order(root, two[0]))["complete"] is False
    put(receive, root, two[0])
    assert runs(root) == first


def test_a_damaged_wheel_is_refused(root, two, tmp_path):
    receive = load()
    given = order(root, two[0])
    receive.main("state", given)
    import zipfile

    with zipfile.ZipFile(two[0]) as archive, zipfile.ZipFile(given["wheel"], "w") as other:
        for name in archive.namelist():
            other.writestr(name, archive.read(name) + (b"x" if name.endswith("main.py") else b""))
    with pytest.raises(ValueError, match=r"main\.py"):
        receive.main("unpack", given)
    assert not (root / "runtime" / given["id"]).exists()


@pytest.mark.parametrize("cut", CUTS)
def test_cut_off_anywhere(root, two, monkeypatch, cut):
    """Each call of `os.<cut>` in turn is the last: the old version runs, or the new one, and the next run ends well."""
    receive = load()
    first, _ = put(receive, root, two[0])
    real, second = getattr(os, cut), setup.given(two[1], os.uname().machine).id
    for at in range(1000):
        shutil.rmtree(root)
        put(receive, root, two[0])
        calls = []

        def last(*args, at=at, calls=calls, **more):
            calls.append(args)
            if len(calls) == at + 1:
                raise Cut
            return real(*args, **more)

        with monkeypatch.context() as patch, contextlib.suppress(Cut):
            patch.setattr(os, cut, last)
            put(receive, root, two[1])
        assert runs(root) in (first, second)
        assert put(receive, root, two[1])[0] == second == runs(root)
        assert not [p for p in (root / "runtime").iterdir() if p.name.startswith(".")]
        if len(calls) <= at:  # it was not reached
            break
    assert 0 < at < 999


def test_the_launcher_takes_any_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("site.ENABLE_USER_SITE", False)
    root = tmp_path / 'a "strange" $folder\'s `name`'
    _, done = put(load(), root, wheels.broken(tmp_path / "whole"))
    environment = {"PATH": os.defpath, "HOME": str(tmp_path)}
    ran = subprocess.run([done["activate"]["launcher"], "--version"], capture_output=True, text=True, env=environment)
    assert ran.stdout.startswith("edgec-rt "), ran.stderr


def test_it_is_python_3_9():
    pytest.importorskip("vermin", reason="vermin is part of `make lint`")
    command = [sys.executable, "-c", "import vermin; vermin.main()", "-q", "-t=3.9-", "--eval-annotations"]
    done = subprocess.run([*command, "--no-tips", str(setup.RECEIVE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
