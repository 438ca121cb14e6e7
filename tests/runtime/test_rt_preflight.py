"""Before the first run: what a payload needs and this machine lacks is a sentence with a way out, never a crash."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from edgec_runtime import machine, preflight, select
from edgec_runtime.cli.main import main
from edgec_runtime.engines.base import Engine
from edgec_runtime.engines.library import Library
from edgec_runtime.errors import UnsupportedError
from edgec_runtime.slots.install import install
from tests.runtime import elf_files

A53 = machine.Machine("aarch64", frozenset({"fp", "asimd", "crc32"}), 400_000_000, "2.31")
MUSL = machine.Machine("aarch64", frozenset({"fp", "asimd"}), 400_000_000, "")


class Fake(Engine):
    name, uses_numpy = "fake", None

    def __init__(self, version, library=None):
        self._version, self._library = version, library

    def version(self):
        return self._version

    def library(self):
        return self._library


def kinds(entry, here, engine, **more):
    return [problem.kind for problem in preflight.payload(entry, here, find=lambda name: engine, **more)]


def test_a_payload_that_can_run_has_no_problem(kit):
    assert kinds(kit.payload(arch="aarch64", isa=["asimd"]), A53, Fake("1.30")) == []


@pytest.mark.parametrize(
    "changes, engine, expected, words",
    [
        ({"isa": ["asimddp"]}, Fake("1.30"), ["isa"], "lacks asimddp"),
        ({"glibc": "2.34"}, Fake("1.30"), ["glibc"], "glibc 2.34; this system has 2.31"),
        ({"glibc": "2.31"}, Fake("1.30"), [], ""),
        ({"memory": 500_000_000}, Fake("1.30"), ["memory"], "500 MB of memory; 400 MB"),
        ({}, Fake(None), ["engine"], "not installed"),
        ({}, Fake("1.2"), ["engine"], "1.2 is installed"),
        (
            {"isa": ["i8mm"], "glibc": "2.99", "memory": 10**12},
            Fake(None),
            ["isa", "glibc", "memory", "engine"],
            "i8mm",
        ),
    ],
)
def test_everything_that_is_amiss_is_said_at_once(kit, changes, engine, expected, words):
    entry = kit.payload(arch="aarch64", **changes)
    found = preflight.payload(entry, A53, find=lambda name: engine)
    assert [problem.kind for problem in found] == expected
    assert words in " ".join(problem.why for problem in found)
    assert all(problem.fix for problem in found)


def test_another_c_library(kit):
    entry = kit.payload(arch="aarch64", native_code=True, glibc="2.17")
    assert select.obstacle(entry, MUSL, trusted=True) == "it needs glibc 2.17; this system has another C library"
    assert kinds(entry, MUSL, Fake("1.30"), trusted=False) == ["trust", "glibc"]


def test_no_wheel_for_this_python_is_said(kit, monkeypatch):
    entry = kit.payload(arch="aarch64", engine_version=">=1.24")
    monkeypatch.setattr(sys, "version_info", (3, 10, 12))
    (problem,) = preflight.payload(entry, A53, find=lambda name: Fake(None))
    assert "for Python 3.10 pip has onnxruntime up to 1.23.2" in problem.why
    assert "pip install 'onnxruntime>=1.24'" in problem.fix


@pytest.fixture
def library(tmp_path):
    def make(version="2.3.0", **more):
        path = tmp_path / "libLiteRt.so"
        path.write_bytes(elf_files.library(**more))
        return Library(str(path), version)

    return make


@pytest.mark.parametrize(
    "more, here, words",
    [
        ({}, machine.Machine("aarch64", frozenset(), None, "2.36"), ""),
        ({}, A53, "libLiteRt.so 2.3.0 needs glibc 2.34; this system has 2.31"),
        ({}, MUSL, "needs glibc 2.34; this system has another C library"),
        ({"machine": 62}, A53, "is for x86_64; this machine is aarch64"),
        ({"machine": 40, "bits": 32}, A53, "is for arm"),
    ],
)
def test_what_an_engines_library_asks_for(library, more, here, words, monkeypatch):
    monkeypatch.setattr(preflight, "_find", lambda name: None)
    found = list(preflight.library_problems(library(**more), here))
    assert (words in found[0]) if words else not found


def test_a_libstdcxx_that_is_too_old(library, tmp_path, monkeypatch):
    (tmp_path / "libstdc++.so.6").write_bytes(b"\0GLIBCXX_3.4.29\0")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    here = machine.Machine("aarch64", frozenset(), None, "2.36")
    assert "GLIBCXX_3.4.30" in next(preflight.library_problems(library(), here))
    (tmp_path / "libstdc++.so.6").write_bytes(b"\0GLIBCXX_3.4.29\0GLIBCXX_3.4.30\0")
    assert not list(preflight.library_problems(library(), here))


def test_no_library_at_all(library):
    lib = library()
    Path(lib.path).write_bytes(b"\x7fELF no library")
    assert "no library that this machine can load" in next(preflight.library_problems(lib, A53))
    os.unlink(lib.path)
    assert "No such file" in next(preflight.library_problems(lib, A53))


def test_loading_is_tried_in_a_process_of_its_own(tmp_path):
    path = tmp_path / "libwrong.so"
    path.write_bytes(elf_files.library(62))
    assert preflight.trial(Library(str(path), "1"))
    from edgec_runtime.engines import onnxruntime_capi

    real = onnxruntime_capi.library()
    if real is None:
        pytest.skip("onnxruntime is not installed")
    assert preflight.trial(real) == ""


def test_a_signal_while_loading_is_told(monkeypatch, tmp_path):
    from edgec_runtime.engines import foreign

    def dies(path):
        os.kill(os.getpid(), 4)

    monkeypatch.setattr(foreign, "Library", dies)
    assert preflight.trial(Library("/lib/x.so", "1")) == (
        "x.so died of signal 4 while it was loaded: it was built for a newer CPU"
    )


def test_room(tmp_path):
    assert not preflight.room(1, str(tmp_path / "not" / "there"))
    (problem,) = preflight.room(1 << 60, str(tmp_path / "not" / "there"))
    assert problem.kind == "disk" and str(tmp_path) in problem.why


def test_a_bundles_payloads_in_the_order_of_the_choice(kit):
    kit.manifest["payloads"] = [kit.payload(id="dots", arch="aarch64", isa=["asimddp"]), kit.payload(id="any")]
    whole = {**kit.manifest, "members": kit.members()}
    report = preflight.manifest(whole, machine.this())
    assert [each["payload"] for each in report] == (
        ["any", "dots"] if os.uname().machine == "x86_64" else ["dots", "any"]
    )
    assert report[0]["usable"] == (not report[0]["problems"])


def test_doctor_tells_of_a_file(model_kit, root, tmp_path, capsys):
    here = os.uname().machine
    model_kit.manifest["payloads"] = [
        model_kit.payload(id="newer", arch=here, isa=["no_such_feature"]),
        model_kit.payload(id="fits", arch=here),
    ]
    path = model_kit.write(tmp_path)
    assert main(["doctor", str(path)]) == 0
    said = capsys.readouterr().out
    assert "newer: can not run here" in said and "this CPU lacks no_such_feature" in said and "fix: compile it" in said
    assert "fits: can run here" in said
    assert main(["doctor", str(path), "--json"]) == 0
    assert [each["usable"] for each in json.loads(capsys.readouterr().out)["bundle"]] == [False, True]


@pytest.mark.parametrize("command", ["doctor", "install", "selftest"])
def test_a_bundle_for_a_newer_cpu_is_one_clear_error(model_kit, root, tmp_path, capsys, command):
    model_kit.manifest["payloads"] = [model_kit.payload(id="newer", arch=os.uname().machine, isa=["no_such_feature"])]
    assert main([command, str(model_kit.write(tmp_path))]) == 4
    assert "newer: this CPU lacks no_such_feature" in capsys.readouterr().err


def test_doctor_without_a_file_refuses_allow_unsigned(root, capsys):
    assert main(["doctor", "--allow-unsigned"]) == 2


def test_install_refuses_an_engine_library_that_the_system_can_not_load(model_kit, root, tmp_path, monkeypatch):
    path = tmp_path / "libonnxruntime.so.1.32.0"
    path.write_bytes(elf_files.library(62, versions={"libc.so.6": ("GLIBC_9.99",)}))
    monkeypatch.setenv("EDGEC_ONNXRUNTIME_LIBRARY", str(path))
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    if os.uname().machine != "x86_64":
        pytest.skip("the file is for x86-64")
    with pytest.raises(UnsupportedError) as error:
        install(model_kit.write(tmp_path))
    assert "libonnxruntime.so.1.32.0" in error.value.why and "needs glibc 9.99" in error.value.why


def test_a_load_that_is_refused_says_what_the_library_needs_instead_of_the_loaders_words(
    model_kit, root, tmp_path, monkeypatch
):
    import edgec_runtime as rt
    from edgec_runtime.engines.base import RefusedError

    path = tmp_path / "libLiteRt.so"
    path.write_bytes(elf_files.library(versions={"libc.so.6": ("GLIBC_9.99",)}))
    engine = Fake("1.30.0", Library(str(path), "2.3.0"))

    def refuses(payload, options):
        raise RefusedError("the engine refuses the model", "version `GLIBC_9.99' not found")

    engine.load = refuses
    monkeypatch.setattr(select, "engine_for", lambda entry: engine)
    with pytest.raises(UnsupportedError) as error:
        rt.load(model_kit.write(tmp_path))
    assert f"libLiteRt.so 2.3.0 needs glibc 9.99; this system has {machine.glibc()}" in error.value.why
    path.write_bytes(elf_files.library(versions={"libc.so.6": ("GLIBC_2.4",)}))
    with pytest.raises(UnsupportedError) as error:
        rt.load(model_kit.write(tmp_path))
    assert "the engine refuses the model: version `GLIBC_9.99' not found" in error.value.why
