"""What importing the package costs and what it may import."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgec_runtime

FOLDER = Path(edgec_runtime.__file__).parent
OURS = [module.name for module in pkgutil.walk_packages([str(FOLDER)], "edgec_runtime.")]


def modules_after(code):
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_the_package_imports_next_to_nothing():
    new = modules_after("import edgec_runtime") - modules_after("import typing")
    assert new <= {"edgec_runtime", "__future__"}


def test_importing_load_imports_no_engine_and_no_numpy():
    new = modules_after("from edgec_runtime import load, Model")
    assert "numpy" not in new and "onnxruntime" not in new and "json" not in new and "hashlib" not in new


@pytest.mark.parametrize("name", [name for name in OURS if not name.endswith("__main__")])
def test_every_module_imports_alone_without_numpy(name):
    absent = ("numpy", "onnxruntime", "cryptography", "ml_dtypes", "edgec", "onnx")
    block = f"import sys\nsys.modules.update(dict.fromkeys({absent!r}))\n"
    subprocess.run([sys.executable, "-c", f"{block}import {name}"], check=True)


def test_only_the_standard_library_at_the_top_of_a_module():
    allowed = set(sys.stdlib_module_names) | {"edgec_runtime"}
    for path in FOLDER.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, path
                names = [node.module]
            for name in names:
                assert name.split(".")[0] in allowed, f"{path.name} imports {name}"


def test_unknown_attributes():
    with pytest.raises(AttributeError):
        edgec_runtime.nothing  # noqa: B018
    assert {"load", "Model"} <= set(dir(edgec_runtime))


def test_the_language_is_python_3_9():
    pytest.importorskip("vermin", reason="vermin is part of `make lint`")
    command = [sys.executable, "-c", "import vermin; vermin.main()", "-q", "-t=3.9-", "--no-tips", str(FOLDER)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
