"""Both wheels: what is in them, what they require, and that they work in empty environments without the source tree."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from packaging.requirements import Requirement

from tests.packaging.environments import Environment, clean, metadata, run

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "edgec": ["edgec", "targets/edgec_targets", "toolchains/edgec_toolchains"],
    "edgec-runtime": ["runtime/edgec_runtime"],
}
PROJECTS = {"edgec": ROOT / "pyproject.toml", "edgec-runtime": ROOT / "runtime/pyproject.toml"}
OLDEST = "3.9"  # edgec-runtime's requires-python


def oldest_python() -> str | None:
    """A Python 3.9 that runs: `python3.9` on the PATH, or one that pyenv or uv installed."""
    home = Path.home()
    places = [home / ".pyenv/versions", home / ".local/share/uv/python"]
    installed = [str(p) for place in places for p in sorted(place.glob(f"*{OLDEST}.*/bin/python{OLDEST}"))]
    for python in [f"python{OLDEST}", *installed]:
        found = shutil.which(python)
        if found and subprocess.run([found, "-c", "import venv, ensurepip"], capture_output=True).returncode == 0:
            return found
    return None


@dataclass(frozen=True)
class Compiled:
    """A bundle that the installed wheels made: its file, an input for it, and the home of the user who made it."""

    bundle: Path
    feeds: Path
    home: Path


@pytest.fixture(scope="session")
def compiled(host: Environment, shared: Callable[[str, Callable[[Path], None]], Path]) -> Compiled:
    """A small convolution, quantized with data and compiled for this machine by the installed `edgec`."""

    def make(home: Path) -> None:
        rng = np.random.default_rng(0)
        shape = (4, 3, 3, 3)
        graph = helper.make_graph(
            [
                helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
                helper.make_node("Relu", ["c"], ["y"], name="relu"),
            ],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 8, 8])],
            [numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, home / "conv.onnx")
        samples = rng.standard_normal((6, 3, 8, 8)).astype(np.float32)
        np.savez(home / "calib.npz", x=samples)
        np.savez(home / "input.npz", x=samples[:1])
        options = ["-t", "host", "--calib", "calib.npz", "--precision", "int8", "-o", "conv.edge"]
        run(host.bin / "edgec", "compile", "conv.onnx", *options, cwd=home, env=clean(home))

    home = shared("home", make)
    return Compiled(home / "conv.edge", home / "input.npz", home)


def device_home(home: Path, compiled: Compiled) -> dict[str, str]:
    """The variables of a device's user at `home` who trusts the key that signed the bundle."""
    shutil.copytree(compiled.home / "root/trust", home / "root/trust")
    return clean(home)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_wheel_holds_its_packages_and_nothing_else(name: str, wheels: dict[str, Path]) -> None:
    expected: set[str] = set()
    for package in map(ROOT.joinpath, PACKAGES[name]):
        files = [p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        expected |= {p.relative_to(package.parent).as_posix() for p in files}
    info = f"{name.replace('-', '_')}-{metadata(wheels[name]).version}.dist-info"
    expected |= {f"{info}/{f}" for f in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    with zipfile.ZipFile(wheels[name]) as wheel:
        assert set(wheel.namelist()) == expected
        licence = wheel.read(f"{info}/licenses/LICENSE").decode()
    assert "Apache License" in licence


def test_the_wheels_hold_data_and_types(wheels: dict[str, Path]) -> None:
    host, device = (set(zipfile.ZipFile(wheels[name]).namelist()) for name in PACKAGES)
    assert {f"edgec_targets/boards/{p.name}" for p in (ROOT / "targets/edgec_targets/boards").glob("*.toml")} <= host
    assert "edgec_targets/boards/host.toml" in host
    assert {f"edgec_targets/emitters/onnxruntime/{name}.json" for name in ("support", "releases")} <= host
    assert {"edgec/py.typed", "edgec_targets/py.typed"} <= host
    assert "edgec_runtime/py.typed" in device


def test_the_runtime_requires_nothing_and_the_compiler_its_own_runtime(wheels: dict[str, Path]) -> None:
    host, device = (metadata(wheels[name]) for name in PACKAGES)
    assert [line for line in device.requires or () if "extra ==" not in line] == []
    assert f"edgec-runtime=={device.version}" in (host.requires or ())
    for name, found in (("edgec", host), ("edgec-runtime", device)):
        project = tomllib.loads(PROJECTS[name].read_text())["project"]
        assert found.metadata["License-Expression"] == "Apache-2.0"
        assert found.metadata["Requires-Python"] == project["requires-python"]
        stated = {str(Requirement(line)) for line in project["dependencies"]}
        assert {str(Requirement(line)) for line in found.requires or () if "extra ==" not in line} == stated


def test_the_requirements_are_met_by_what_the_environments_have(host: Environment, device: Environment) -> None:
    """The pins of the development environment lie within the ranges that users get (`pip check` finds no conflict)."""
    for environment in (host, device):
        python = environment.bin / "python"
        run(sys.executable, "-m", "pip", "--python", python, "check", cwd=environment.folder, env=clean(Path("/")))


def test_the_installed_compiler_makes_a_bundle_that_the_installed_runtime_runs(
    host: Environment, compiled: Compiled, tmp_path: Path
) -> None:
    env = clean(compiled.home)

    def edgec(*arguments: str | Path) -> str:
        return run(host.bin / "edgec", *arguments, cwd=tmp_path, env=env).stdout

    assert edgec("--version").split()[-1] == metadata_version("edgec")
    assert "rpi5" in edgec("boards")
    assert "compile" in edgec("--help")
    where = "import edgec as e, edgec_targets as t, edgec_runtime as r; print(*e.__path__, *t.__path__, *r.__path__)"
    for path in run(host.bin / "python", "-c", where, cwd=tmp_path, env=env).stdout.split():
        assert Path(path).is_relative_to(host.folder)
    edgec("verify", compiled.bundle)
    edgec("inspect", compiled.bundle, "--ops", "--why")
    run(host.bin / "edgec-rt", "run", compiled.bundle, "--input", compiled.feeds, "-o", "y.npz", cwd=tmp_path, env=env)
    with np.load(tmp_path / "y.npz") as outputs:
        assert outputs["y"].shape == (1, 4, 8, 8)
        assert outputs["y"].min() >= 0


def metadata_version(name: str) -> str:
    return str(tomllib.loads(PROJECTS[name].read_text())["project"]["version"])


def test_entry_points_load(host: Environment, tmp_path: Path) -> None:
    code = (
        "import json, sys; from importlib.metadata import entry_points as e;"
        "print(json.dumps({g: {p.name: type(p.load()).__name__ for p in e(group=g)} for g in sys.argv[1:]}))"
    )
    groups = ["edgec.targets", "edgec_runtime.engines"]
    found = json.loads(run(host.bin / "python", "-c", code, *groups, cwd=tmp_path, env=clean(tmp_path)).stdout)
    assert set(found["edgec.targets"]) == {"host", "arm_cpu", "x86_cpu"}
    assert set(found["edgec.targets"].values()) == {"Target"}
    assert "onnxruntime" in found["edgec_runtime.engines"]


def test_a_device_with_one_engine_runs_the_bundle(device: Environment, compiled: Compiled, tmp_path: Path) -> None:
    env = device_home(tmp_path, compiled)
    rt = device.bin / "edgec-rt"
    assert not (device.bin / "edgec").exists()
    run(device.bin / "python", "-c", "import onnx", cwd=tmp_path, env=env, code=1)
    run(rt, "selftest", compiled.bundle, cwd=tmp_path, env=env)
    run(rt, "run", compiled.bundle, "--input", compiled.feeds, "-o", "y.npz", cwd=tmp_path, env=env)
    with np.load(tmp_path / "y.npz") as outputs:
        assert outputs["y"].shape == (1, 4, 8, 8)
    run(rt, "install", compiled.bundle, "--app", "conv", cwd=tmp_path, env=env)
    run(rt, "run", "--app", "conv", "--input", compiled.feeds, cwd=tmp_path, env=env)


def test_a_device_that_does_not_trust_the_key_refuses(device: Environment, compiled: Compiled, tmp_path: Path) -> None:
    run(device.bin / "edgec-rt", "selftest", compiled.bundle, cwd=tmp_path, env=clean(tmp_path), code=5)


VERIFY = """
import sys
from edgec_runtime import bundle
from edgec_runtime.errors import Error
path = sys.argv[1]
with bundle.open(path) as opened:
    opened.verify_all()
    print(opened.manifest["app"]["name"])
content = bytearray(open(path, "rb").read())
content[len(content) // 2] ^= 1
open("bent.edge", "wb").write(content)
try:
    with bundle.open("bent.edge") as opened:
        opened.verify_all()
    print("accepted")
except Error as error:
    print(error.exit_code)
print("numpy" in sys.modules, "cryptography" in sys.modules)
"""
EVERY_MODULE = """
import importlib, pkgutil, edgec_runtime
names = [m.name for m in pkgutil.walk_packages(edgec_runtime.__path__, "edgec_runtime.") if "__main__" not in m.name]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


@pytest.mark.parametrize("version", ["this Python", OLDEST])
def test_the_runtime_alone_verifies_and_says_what_is_missing(
    version: str, wheels: dict[str, Path], compiled: Compiled, tmp_path: Path
) -> None:
    """No numpy, no engine, no cryptography: the standard library of this Python, and of the oldest that is promised."""
    python = sys.executable if version == "this Python" else oldest_python()
    if python is None:
        pytest.skip(f"no Python {OLDEST} on this machine")
    bare = Environment(tmp_path / "bare").create([wheels["edgec-runtime"]], python=python)
    env = device_home(tmp_path, compiled)
    run(bare.bin / "python", "-c", "import numpy", cwd=tmp_path, env=env, code=1)
    assert int(run(bare.bin / "python", "-c", EVERY_MODULE, cwd=tmp_path, env=env).stdout) > 20
    said = run(bare.bin / "python", "-c", VERIFY, compiled.bundle, cwd=tmp_path, env=env).stdout
    assert said.split("\n")[:3] == ["conv", "5", "False False"]
    doctor = run(bare.bin / "edgec-rt", "doctor", cwd=tmp_path, env=env).stdout
    assert "not installed" in doctor
    assert "pip install 'edgec-runtime[onnxruntime]'" in doctor
    failed = run(bare.bin / "edgec-rt", "selftest", compiled.bundle, cwd=tmp_path, env=env, code=10)
    assert "onnxruntime" in failed.stderr
    once = ["run", compiled.bundle, "--input", compiled.feeds]
    failed = run(bare.bin / "edgec-rt", *once, cwd=tmp_path, env=env, code=10)
    assert failed.stderr.startswith("error[E10")
