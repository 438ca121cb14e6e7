"""The emulated cores' set-up without a set-up: what it would do, and what it says where something is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec_runtime import machine
from edgec_runtime.errors import MissingError
from edgec_toolchains import aarch64
from edgec_toolchains.aarch64 import Counts, bed, counts, packages, wheels

NUMBERS = st.lists(st.integers(0, 2**63), min_size=10, max_size=10)
CLASSES = list(Counts().as_dict())


@given(st.lists(st.tuples(st.none() | st.integers(0, 65535), NUMBERS), max_size=5))
def test_reports_are_read_back(regions):
    words = dict(zip(counts._WORDS.values(), counts._WORDS, strict=True))
    lines = [
        " ".join(
            ["exit" if tag is None else str(tag)]
            + [f"{words[name]}={number}" for name, number in zip(CLASSES, numbers, strict=True)]
        )
        for tag, numbers in regions
    ]
    found = counts.parse(lines)
    assert [(r.tag, list(r.counts.as_dict().values())) for r in found] == [(t, list(n)) for t, n in regions]
    assert counts.total(found).instructions == sum(numbers[0] for _, numbers in regions)


@pytest.mark.parametrize("line", ["1 insn=5", "1 insn=5 turbo=3", "one insn=1", "1 insn=x"])
def test_lines_that_are_no_report(line):
    with pytest.raises(ValueError):
        counts.parse([line])


@pytest.mark.parametrize("name", aarch64.CORES)
def test_the_runtime_reads_each_cores_cpuinfo(name, tmp_path):
    model = aarch64.CORES[name]
    (tmp_path / "cpuinfo").write_text(model.cpuinfo(2))
    found = machine.this(str(tmp_path / "cpuinfo"))
    assert found.isa == set(model.features)
    assert model.cpuinfo(3).count("processor") == 3 and f"{model.part:#05x}" in model.cpuinfo()


def test_only_newer_cores_have_dot_products():
    has = {name: ("asimddp" in m.features, "i8mm" in m.features) for name, m in aarch64.CORES.items()}
    assert has == {
        "cortex-a53": (False, False),
        "cortex-a72": (False, False),
        "cortex-a76": (True, False),
        "i8mm": (True, True),
    }


def test_an_unknown_core_is_named_before_anything_is_set_up(tmp_path):
    with pytest.raises(MissingError, match="cortex-m4") as caught:
        aarch64.core("cortex-m4", folder=tmp_path / "bed")
    assert "cortex-a76" in caught.value.why and not (tmp_path / "bed").exists()


def test_without_a_compiler(monkeypatch, tmp_path):
    source = Path(bed.__file__).with_name("counter.c")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(MissingError, match="no C compiler") as caught:
        bed.compile_plugin(source, tmp_path / "counter.so")
    assert caught.value.exit_code == 10 and "gcc" in caught.value.fix
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(MissingError, match="can't be run"):
        bed.compile_plugin(source, tmp_path / "counter.so")


def test_a_compiler_that_fails(tmp_path, monkeypatch):
    source = tmp_path / "counter.c"
    source.write_text("not C")
    monkeypatch.setenv("CC", "false")
    with pytest.raises(MissingError, match="can't be compiled"):
        bed.compile_plugin(source, tmp_path / "counter.so")
    assert not (tmp_path / "counter.so").exists()


def test_without_apt(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(packages.MIRROR, "file:/nowhere")
    with pytest.raises(MissingError, match="can't be set up") as caught:
        aarch64.core("cortex-a76", folder=tmp_path / "bed")
    assert caught.value.exit_code == 10 and "apt-get" in caught.value.why + caught.value.fix
    assert not (tmp_path / "bed" / "bed.json").exists()


def fake(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_without_a_mirror(monkeypatch, tmp_path):
    fake(tmp_path / "bin", "apt-get", "echo 'Ubuntu https://there/ubuntu'")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.delenv(packages.MIRROR, raising=False)
    with pytest.raises(MissingError, match="no Debian mirror") as caught:
        packages.unpack(["libc6:arm64"], tmp_path / "root", tmp_path / "state")
    assert packages.MIRROR in caught.value.fix


def test_the_network_is_down(monkeypatch, tmp_path):
    fake(tmp_path / "bin", "apt-get", "echo 'E: Could not resolve' >&2; exit 100")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv(packages.MIRROR, "http://there/debian")
    with pytest.raises(MissingError) as caught:
        packages.unpack(["libc6:arm64"], tmp_path / "root", tmp_path / "state")
    assert "Could not resolve" in caught.value.why and "goes on where it stopped" in caught.value.fix
    sources = (tmp_path / "state" / "sources.list").read_text()
    assert sources.endswith("http://there/debian bookworm main\n")
    said = (tmp_path / "state" / "apt.conf").read_text()
    assert str(tmp_path / "state") in said and '"arm64"' in said


def test_a_package_that_is_damaged_is_downloaded_again(monkeypatch, tmp_path):
    state = tmp_path / "state"
    (state / "archives").mkdir(parents=True)
    (state / "archives" / "libc6:arm64.deb").write_bytes(b"cut short")
    monkeypatch.setenv(packages.MIRROR, "http://there/debian")
    with pytest.raises(MissingError):
        packages.unpack(["libc6:arm64"], tmp_path / "root", state)
    assert not (state / "archives" / "libc6:arm64.deb").exists()


def test_wheels_are_pinned_by_hash(monkeypatch, tmp_path):
    lines = [line for line in wheels.PINS.read_text().splitlines() if not line.startswith("#")]
    assert all("==" in line and "--hash=sha256:" in line for line in lines)
    assert {"onnxruntime", "ai-edge-litert", "numpy"} <= set(wheels.names())
    asked = []

    def refuse(command, **_):
        asked.extend(command)
        return subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: THESE PACKAGES DO NOT MATCH THE HASHES")

    monkeypatch.setattr(wheels.subprocess, "run", refuse)
    with pytest.raises(MissingError, match="wheels") as caught:
        wheels.unpack(tmp_path)
    assert "DO NOT MATCH" in caught.value.why and "WARNING" not in caught.value.why
    assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} <= set(asked)


def test_a_bed_of_another_recipe_is_not_taken(tmp_path):
    (tmp_path / "bed.json").write_text(json.dumps({"recipe": "of last year"}))
    assert bed._found(tmp_path) is None
    (tmp_path / "bed.json").write_text("{")
    assert bed._found(tmp_path) is None
    (tmp_path / "bed.json").write_text(json.dumps({"recipe": bed._recipe(), "debian": []}))
    assert bed.prepare(tmp_path).folder == tmp_path


def test_a_program_that_is_not_there(tmp_path):
    (tmp_path / "bed.json").write_text(json.dumps({"recipe": bed._recipe(), "debian": []}))
    core = aarch64.core("cortex-a53", folder=tmp_path)
    with pytest.raises(MissingError, match="no program"):
        core.run([tmp_path / "nothing"])
    with pytest.raises(MissingError, match="tensorflow"):
        core.python(["-c", ""], wheels=["tensorflow"])


def test_importing_it_imports_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-c", "import edgec_toolchains.aarch64, sys; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not {"numpy", "onnx", "onnxruntime", "platformdirs"} & set(done.stdout.split())
