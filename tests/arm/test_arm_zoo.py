"""Every zoo model, compiled for three boards, installed and tested on the emulated core of each: kernels and counts.

Counts are exact, so one that is a hundredth over that of `counts.json` is a change that somebody made. After one that
was meant: `EDGEC_COUNTS=write make test-arm`, and say why in the commit.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from benchmarks import arm, zoo
from edgec.compiler import compile
from edgec.measure.emulated import emulated

BOARDS = {"rpi-zero2w": "cortex-a53", "rpi4": "cortex-a72", "rpi5": "cortex-a76"}
COUNTS = Path(__file__).with_name("counts.json")
WRITE = os.environ.get("EDGEC_COUNTS") == "write"
SAMPLES = 8  # calibrate here: what is tested is the way to the board, not the accuracy
WHEELS = ("ai-edge-litert", "onnxruntime")


@pytest.fixture(scope="session", params=zoo.CASES)
def case(request, core, tmp_path_factory):
    """(name, bundle, the boards' trust folder) of a zoo model for all three boards."""
    name = request.param
    if not (zoo.ZOO / name / "model.onnx").is_file():
        pytest.skip(f"no zoo at {zoo.ZOO} (set EDGEC_ZOO)")
    folder = tmp_path_factory.mktemp(name)
    (folder / "few.py").write_text(
        "import itertools\nfrom benchmarks import zoo\n"
        f"def feeds():\n    return itertools.islice(zoo.module({name!r}).feeds('calib'), {SAMPLES})\n"
    )
    shapes = {key: value.shape for key, value in zoo.first_feed(name).items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEC_CONFIG", str(folder / "config"))
        patch.setenv("EDGEC_ROOT", str(folder))  # its trust folder is what the boards trust
        compile(
            zoo.folder(name) / "model.onnx", ",".join(BOARDS), output=folder / "m.edge", name=name, precision="int8",
            calib=f"{folder / 'few.py'}:feeds", shapes=shapes, effort="plain",
        )  # fmt: skip
    return name, folder / "m.edge", folder / "trust"


@pytest.mark.parametrize("board", BOARDS)
def test_it_installs_and_gives_its_golden_answers_on_the_board(core, case, board, tmp_path):
    name, bundle, trust = case
    runtime, root = arm.copied(tmp_path), tmp_path / "root"
    shutil.copytree(trust, root / "trust")
    given = {"wheels": WHEELS, "paths": [runtime], "env": {"EDGEC_ROOT": str(root)}}
    installed = core(BOARDS[board]).python(["-m", "edgec_runtime", "install", str(bundle), "--json"], **given)
    payloads = json.loads(installed.stdout)["payloads"]
    wrong = {"rpi5"} if board != "rpi5" else {"rpi-zero2w", "rpi4"}  # the first two have the same features
    assert len(payloads) == 2 and not [p for p in payloads if p.endswith(tuple(wrong))], payloads
    tested = core(BOARDS[board]).python(["-m", "edgec_runtime", "selftest", "--app", name, "--json"], **given)
    found = {result["payload"]: result["result"] for result in json.loads(tested.stdout)["payloads"]}
    assert found == dict.fromkeys(payloads, "passed")


@pytest.mark.parametrize("board", BOARDS)
def test_its_kernels_are_those_of_the_core_and_cost_what_they_did(case, board):
    name, bundle, _ = case
    _, found = emulated([str(bundle)], BOARDS[board], allow_unsigned=True)
    assert not [candidate.refused for candidate in found if candidate.refused]
    counts = {candidate.name.split()[1]: candidate.call for candidate in found}
    for call in counts.values():
        assert (call.dot > 0) == (board == "rpi5"), "int8 dot products"
        assert call.mmla == 0 and (board == "rpi5" or call.smlal > 0)
    key = f"{name} {BOARDS[board]}"
    figures = {engine: call.instructions for engine, call in counts.items()}
    if WRITE:
        known = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
        COUNTS.write_text(json.dumps({**known, key: figures}, indent=1, sort_keys=True) + "\n")
        return
    known = json.loads(COUNTS.read_text())[key]
    assert figures.keys() == known.keys()
    assert {engine for engine, n in figures.items() if n > 1.01 * known[engine]} == set(), (figures, known)
