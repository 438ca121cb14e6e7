"""The device wheel on an emulated core with nothing else, and payloads for newer cores refused in words."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from edgec_toolchains import aarch64, wheelhouse

LIMIT = 8_000_000  # bytes installed, with the bytecode that the first run writes


@pytest.fixture(scope="session")
def made(core, tmp_path_factory):
    core("cortex-a53")  # what it downloads is what the wheel is made of
    downloads = Path(os.environ[aarch64.VARIABLE]).absolute() / "wheels" / "downloads"
    return wheelhouse.device_wheel("litert", "aarch64", folder=tmp_path_factory.mktemp("wheel"), downloads=downloads)


@pytest.fixture(scope="session")
def device(made, tmp_path_factory):
    """A folder with the unpacked wheel, y = relu(x) compiled for a Raspberry Pi 4, and a root that trusts its key."""
    from onnx import helper

    from edgec.bundle import keys, writer
    from edgec.compiler import compile
    from edgec_runtime.bundle import reader

    folder = tmp_path_factory.mktemp("device")
    with zipfile.ZipFile(made.path) as archive:
        archive.extractall(folder / "site")
    info = [helper.make_tensor_value_info(name, 1, [1, 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ROOT", "CONFIG", "CACHE"):
            patch.setenv(f"EDGEC_{name}", str(folder / name.lower()))
        asked = {"precision": "float32", "engines": ("litert",), "golden": "synthetic"}
        compile(model, "rpi4", output=folder / "relu.edge", name="relu", **asked)
        with reader.open(folder / "relu.edge") as bundle:
            manifest = {key: value for key, value in bundle.manifest.items() if key != "members"}
            files = {member["name"]: bytes(bundle.read(member["name"])) for member in bundle.manifest["members"]}
        manifest["payloads"] = [{**entry, "isa": ["asimd", "asimddp"]} for entry in manifest["payloads"]]
        writer.write(folder / "dots.edge", manifest, files, [keys.development_key()])
    return folder


def edgec_rt(core, folder, *arguments, check=True):
    environment = {"EDGEC_ROOT": str(folder / "root")}
    return core.python(["-m", "edgec_runtime", *arguments], paths=[folder / "site"], env=environment, check=check)


def test_the_tag_is_the_librarys_true_floor(made):
    assert made.path.name.endswith("-py3-none-manylinux_2_35_aarch64.whl")
    assert (made.glibc, made.glibcxx) == ("2.35", "3.4.30")


@pytest.mark.parametrize("name", ["cortex-a53", "cortex-a76"])
def test_a_bundles_selftest_passes_with_the_wheel_alone(core, device, name):
    edge = str(device / "relu.edge")
    ran = edgec_rt(core(name), device, "selftest", edge, "--json")
    assert [each["result"] for each in json.loads(ran.stdout)["payloads"]] == ["passed"]
    told = json.loads(edgec_rt(core(name), device, "doctor", edge, "--json").stdout)
    assert told["engines"]["litert"] == "2.3.0" and told["arch"] == "aarch64" and told["problems"] == []
    assert [each["usable"] for each in told["bundle"]] == [True]


def test_installed_it_is_small(core, device):
    edgec_rt(core("cortex-a53"), device, "doctor")
    size = sum(path.stat().st_size for path in (device / "site").rglob("*") if path.is_file())
    assert size <= LIMIT


@pytest.mark.parametrize("command", ["selftest", "install", "doctor"])
def test_payloads_for_dot_products_are_refused_on_a_core_without(core, device, command):
    """The message, not an illegal instruction: nothing of the payload is loaded."""
    edge = str(device / "dots.edge")
    ran = edgec_rt(core("cortex-a53"), device, command, edge, check=False)
    assert ran.returncode == 4 and "error[E401]" in ran.stderr and "this CPU lacks asimddp" in ran.stderr
    assert edgec_rt(core("cortex-a76"), device, command, edge, check=False).returncode == 0


def test_loading_them_is_refused_in_the_same_words(core, device):
    program = (
        f"import edgec_runtime as rt\ntry: rt.load({str(device / 'dots.edge')!r})\nexcept Exception as e: print(e)"
    )
    environment = {"EDGEC_ROOT": str(device / "root")}
    ran = core("cortex-a53").python(["-c", program], paths=[device / "site"], env=environment)
    assert "error[E401]" in ran.stdout and "this CPU lacks asimddp" in ran.stdout
