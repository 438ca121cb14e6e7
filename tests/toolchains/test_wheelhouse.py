"""Device wheels: the right tag, a true RECORD, licences, the same bytes each time, and a wheel that runs alone."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest
from packaging.utils import parse_wheel_filename

from edgec.errors import BadInputError, MissingError, UnsupportedError
from edgec_runtime import elf
from edgec_toolchains import wheelhouse
from edgec_toolchains.wheelhouse import fetch, runtime_files, wheel
from tests.runtime import elf_files


def library(pin=None, **needs):
    data = elf_files.library(62 if pin and pin.arch == "x86_64" else 183, **needs)
    source = pin or wheelhouse.pin("litert", "aarch64")
    return fetch.EngineLibrary(source, "libLiteRt.so", data, {"LICENSE": b"Apache"}, elf.read(data))


@pytest.fixture(scope="module")
def made():
    return wheel.build(runtime_files.installed(), library())


@pytest.mark.parametrize(
    "versions, floor",
    [
        ({"libc.so.6": ("GLIBC_2.17",)}, "2.17"),
        ({"libc.so.6": ("GLIBC_2.17", "GLIBC_2.34")}, "2.34"),
        ({"libc.so.6": ("GLIBC_2.28",), "libstdc++.so.6": ("GLIBCXX_3.4.22",)}, "2.28"),
        ({"libc.so.6": ("GLIBC_2.34",), "libstdc++.so.6": ("GLIBCXX_3.4.30",)}, "2.35"),  # GCC 12
        ({"libc.so.6": ()}, "2.17"),
    ],
)
def test_the_tag_is_what_the_symbols_need(versions, floor):
    data = elf_files.library(versions=versions)
    assert wheel.glibc(elf.read(data)) == floor


@pytest.mark.parametrize("versions", [{"libc.so.6": (), "libGL.so.1": ()}, {"libstdc++.so.6": ("GLIBCXX_3.5.1",)}])
def test_what_no_manylinux_system_has_is_refused(versions):
    with pytest.raises(UnsupportedError):
        wheel.glibc(elf.read(elf_files.library(versions=versions)))


def test_the_name_follows_the_standards(made):
    name, version, _, tags = parse_wheel_filename(made.name)
    assert name == "edgec-runtime" and version.local == "litert.2.3.0" and made.glibc == "2.35"
    assert {str(tag) for tag in tags} == {"py3-none-manylinux_2_35_aarch64"}


def test_the_record_is_true_and_whole(made):
    with zipfile.ZipFile(io.BytesIO(made.data)) as archive:
        (record,) = (name for name in archive.namelist() if name.endswith("/RECORD"))
        rows = {row[0]: row[1:] for row in csv.reader(archive.read(record).decode().splitlines())}
        assert set(rows) == set(archive.namelist()) and rows.pop(record) == ["", ""]
        for name, (digest, size) in rows.items():
            data = archive.read(name)
            found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert digest == f"sha256={found}" and int(size) == len(data)
        assert made.installed == sum(int(size) for _, size in rows.values())


def test_what_is_in_it(made):
    with zipfile.ZipFile(io.BytesIO(made.data)) as archive:
        names = archive.namelist()
        info = next(name for name in names if name.endswith("/METADATA")).rpartition("/")[0]
        about = BytesParser().parsebytes(archive.read(f"{info}/METADATA"))
        assert about["Version"].endswith("+litert.2.3.0") and about["License-Expression"] == "Apache-2.0"
        for name in about.get_all("License-File"):
            assert archive.read(f"{info}/licenses/{name}")
        assert archive.read(f"{info}/licenses/ai-edge-litert/LICENSE") == b"Apache"
        assert b"Root-Is-Purelib: false\nTag: py3-none-manylinux_2_35_aarch64\n" in archive.read(f"{info}/WHEEL")
        assert archive.read("edgec_runtime/lib/libLiteRt.so.version") == b"2.3.0\n"
        assert "edgec_runtime/cli/main.py" in names and not any("__pycache__" in name for name in names)
        assert b"edgec-rt = edgec_runtime.cli:main" in archive.read(f"{info}/entry_points.txt")
        assert "Requires-Dist" not in about


def test_the_same_bytes_each_time(made, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert wheel.build(runtime_files.installed(), library()).data == made.data


def test_every_engine_is_pinned_for_every_architecture():
    assert wheelhouse.names()[0] == "litert"
    for engine in wheelhouse.names():
        for arch in wheelhouse.ARCHITECTURES:
            found = wheelhouse.pin(engine, arch)
            assert len(found.sha256) == 64 and found.arch in found.platform and found.licenses


def test_the_emulated_cores_use_the_same_files():
    from edgec_toolchains.aarch64 import wheels

    pins = wheels.PINS.read_text()
    for engine in wheelhouse.names():
        assert wheelhouse.pin(engine, "aarch64").requirement in pins


@pytest.mark.parametrize("engine, arch", [("tvm", "aarch64"), ("litert", "armv7l")])
def test_what_is_not_pinned(engine, arch):
    with pytest.raises(MissingError) as error:
        wheelhouse.pin(engine, arch)
    assert error.value.exit_code == 10


def test_a_download_that_fails_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(MissingError) as error:
        fetch.wheel(wheelhouse.pin("litert", "aarch64"), tmp_path / "downloads")
    assert error.value.code == "E1032" and "--wheel FILE" in error.value.fix
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_file_with_another_hash_is_not_taken(tmp_path, monkeypatch):
    pin = wheelhouse.pin("litert", "aarch64")
    (tmp_path / "ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_27_aarch64.whl").write_bytes(b"other")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 1, "", "no network"))
    with pytest.raises(MissingError, match="can't be downloaded"):
        fetch.wheel(pin, tmp_path)


def test_a_wheel_without_the_library(tmp_path):
    path = tmp_path / "x.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.so", b"")
    with pytest.raises(BadInputError):
        fetch.library(wheelhouse.pin("litert", "aarch64"), path)


def test_a_library_for_another_machine(tmp_path):
    pin = wheelhouse.pin("litert", "aarch64")
    path = tmp_path / "x.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(pin.library, elf_files.library(62))
        for name in pin.licenses:
            archive.writestr(name, "text")
    with pytest.raises(BadInputError, match="for x86_64"):
        fetch.library(pin, path)


def installed_library(engine):
    """The engine's library of this machine's own environment, as if it came out of its pinned wheel."""
    import importlib.util

    pin = wheelhouse.pin(engine, os.uname().machine)
    package, _, rest = pin.library.partition("/")
    spec = importlib.util.find_spec(package)
    path = Path(spec.submodule_search_locations[0]) / rest if spec else None
    if path is None or not path.is_file():
        pytest.skip(f"{pin.distribution} {pin.version} is not installed")
    data = path.read_bytes()
    return fetch.EngineLibrary(pin, path.name, data, {"LICENSE": b"text"}, elf.read(data))


def test_a_wheel_runs_alone(tmp_path, monkeypatch):
    """Unpacked, with no site-packages at all: the runtime finds the library beside it, and it computes."""
    if os.uname().machine not in wheelhouse.ARCHITECTURES:
        pytest.skip("no wheel for this machine")
    monkeypatch.setattr(wheel, "LEVEL", 1)  # packing tightly takes seconds
    made = wheel.build(runtime_files.installed(), installed_library("litert"))
    with zipfile.ZipFile(io.BytesIO(made.data)) as archive:
        archive.extractall(tmp_path / "site")
    environment = {"PYTHONPATH": str(tmp_path / "site"), "EDGEC_ROOT": str(tmp_path / "root"), "PATH": os.defpath}
    command = [sys.executable, "-S", "-m", "edgec_runtime", "doctor", "--json"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert found["engines"]["litert"] == "2.3.0" and found["engines"]["onnxruntime"] is None
    assert found["libraries"]["litert"] == str(tmp_path / "site" / "edgec_runtime" / "lib" / "libLiteRt.so")
    assert not any("does not work" in problem for problem in found["problems"]), found["problems"]


def test_a_version_in_the_librarys_name_needs_no_file_beside_it(tmp_path, monkeypatch):
    pin = wheelhouse.pin("onnxruntime", "aarch64")
    data = elf_files.library()
    source = fetch.EngineLibrary(pin, "libonnxruntime.so.1.32.0", data, {"LICENSE": b"MIT"}, elf.read(data))
    made = wheel.build(runtime_files.installed(), source)
    with zipfile.ZipFile(io.BytesIO(made.data)) as archive:
        assert [name for name in archive.namelist() if "/lib/" in name] == [
            "edgec_runtime/lib/libonnxruntime.so.1.32.0"
        ]
        about = archive.read(next(name for name in archive.namelist() if name.endswith("METADATA")))
        assert b"License-Expression: Apache-2.0 AND MIT" in about


def test_pip_takes_it(tmp_path):
    if os.uname().machine != "x86_64":
        pytest.skip("the wheel is for x86-64")
    made = wheel.build(
        runtime_files.installed(), library(wheelhouse.pin("litert", "x86_64"), versions={"libc.so.6": ()})
    )
    (tmp_path / made.name).write_bytes(made.data)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(tmp_path / "t")]
    subprocess.run([*command, str(tmp_path / made.name)], check=True, capture_output=True)
    assert (tmp_path / "t" / "bin" / "edgec-rt").is_file()
    assert (tmp_path / "t" / "edgec_runtime" / "lib" / "libLiteRt.so").is_file()
