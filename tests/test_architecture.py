"""The architecture's rules that lint can't say: rooms that must not know each other, one version, one command list."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("frontends", "passes", "quantize", "bundle")


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, folder
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_do_not_import_each_other_nor_the_compiler(room: str) -> None:
    others = [f"edgec.{r}" for r in ROOMS if r != room] + ["edgec.compiler", "edgec.cli"]
    for path in files(f"edgec/{room}"):
        bad = [n for n in imports(path) if any(n == o or n.startswith(o + ".") for o in others)]
        assert not bad, f"{path.relative_to(ROOT)} imports {bad}"


def test_targets_do_not_import_the_host_package() -> None:
    for path in files("targets/edgec_targets"):
        bad = [n for n in imports(path) if n == "edgec" or n.startswith("edgec.")]
        assert not bad, f"{path.relative_to(ROOT)} imports {bad}"


def test_the_runtime_imports_the_standard_library_and_lazily_an_engine_or_numpy() -> None:
    import sys

    lazily = {"numpy", "onnxruntime", "cryptography", "ml_dtypes"}
    for path in files("runtime/edgec_runtime"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        blocks = [b for b in ast.walk(tree) if isinstance(b, ast.If) and "TYPE_CHECKING" in ast.dump(b.test)]
        guarded = {id(n) for block in blocks for n in ast.walk(block)}
        for node in tree.body:
            if id(node) in guarded or not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            for name in [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]:
                known = sys.stdlib_module_names | {"edgec_runtime"}
                assert name.split(".")[0] in known, f"{path.name} imports {name} at the top"
        everything = {n.split(".")[0] for n in imports(path)}
        assert everything <= sys.stdlib_module_names | {"edgec_runtime"} | lazily, path.name


def test_one_version() -> None:
    host = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    device = tomllib.loads((ROOT / "runtime/pyproject.toml").read_text())["project"]
    import edgec
    import edgec_runtime

    assert host["version"] == device["version"] == edgec.__version__ == edgec_runtime.__version__
    assert f"edgec-runtime=={device['version']}" in host["dependencies"]


def test_every_command_has_its_file_and_every_file_its_line() -> None:
    from edgec.cli import COMMANDS

    parts = {"__init__", "changing", "common", "flashing", "quantizing", "virtual"}  # of commands
    assert {p.stem for p in (ROOT / "edgec/cli").glob("*.py")} - parts == set(COMMANDS)
