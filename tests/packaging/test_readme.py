"""Every command of README.md runs, verbatim, in a fresh clone of what is committed.

What is a command is said in tests/packaging/readme.py.

The clone gets a virtual environment of its own with links to the third-party packages that this one has, so that
`make setup` has only the clone itself to install: it runs the clone's code, and a download takes no part of the time.
That `make setup` works from nothing is shown by CI, which begins with it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.packaging.environments import OWN, clean, link
from tests.packaging.readme import commands, session

ROOT = Path(__file__).parents[2]


def login(home: Path) -> dict[str, str]:
    """A clean login whose pip reaches the registry as the user's own does, without this checkout's environment."""
    keep = {k: v for k, v in os.environ.items() if k.startswith("PIP_") or k.lower().endswith(("_proxy", "_ca_bundle"))}
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pip"
    own = [p for p in (Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf") if p.is_file()]
    more = {"PIP_CACHE_DIR": str(cache)} | ({"PIP_CONFIG_FILE": str(own[0])} if own else {}) | keep
    folders = [p for p in os.environ["PATH"].split(os.pathsep) if not Path(p).is_relative_to(sys.prefix)]
    return clean(home, PATH=os.pathsep.join(folders), **more)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of HEAD, with nothing beside it, and its own environment that lacks only edgec."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    folder = tmp_path / "edgec"
    subprocess.run(["git", "clone", "-q", ROOT, folder], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    names = {
        canonicalize_name(d.name) for d in distributions() if Path(str(d.locate_file(""))).is_relative_to(sys.prefix)
    }
    link(names - OWN, tmp_path / "packages")
    (packages,) = (folder / ".venv").glob("lib/python*/site-packages")
    (packages / "packages.pth").write_text(f"{tmp_path / 'packages'}\n")
    return folder


@pytest.mark.slow
def test_every_command_runs_in_a_fresh_clone(clone: Path, tmp_path: Path) -> None:
    lines = commands((clone / "README.md").read_text(encoding="utf-8"))
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", session(lines)],
        cwd=clone, env=login(home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:]
    where = "import edgec, edgec_runtime; print(edgec.__file__, edgec_runtime.__file__)"
    found = subprocess.run(
        [clone / ".venv/bin/python", "-c", where], cwd=tmp_path, env=login(home), capture_output=True, text=True
    )
    assert [Path(p).is_relative_to(clone) for p in found.stdout.split()] == [True, True], found.stdout + found.stderr


@pytest.mark.slow
def test_make_demo_compiles_and_shows_answers(clone: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(["make", "demo"], cwd=clone, env=login(home), capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (clone / "build/file-type.edge").is_file()
    said = " ".join(done.stdout.split())
    assert "verified and loaded by edgec-runtime" in said, done.stdout + done.stderr
    assert re.search(r"Makefile makefile \d+%", said), done.stdout


def test_the_readme_shows_the_whole_way() -> None:
    """The commands are found at all, and each verb that the README's table promises is among them."""
    lines = commands((ROOT / "README.md").read_text(encoding="utf-8"))
    assert lines[0].startswith("make setup")
    for verb in ("compile", "check", "inspect", "verify", "run", "bench", "rebuild"):
        assert any(re.search(rf"\bedgec {verb}\b", line) for line in lines), verb


def test_the_convention() -> None:
    markdown = (
        "```console\n$ edgec compile a \\\n    -o b\nwrote b\n```\ntext\n```python\n$ no\n```\n"
        "```bash\n# a comment\nmake test\n```\n```console\n$ git clone x && cd x\n$ make setup\n```\n"
    )
    assert commands(markdown) == ["make setup", "edgec compile a \\\n    -o b", "make test"]


def test_a_failing_command_stops_the_session_and_is_named() -> None:
    script = session(["x=1", 'true \\\n  && echo "it\'s $x"', "false && true", "echo never"])
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert "it's 1\n" in done.stdout
    assert "command 3 failed with exit code 1" in done.stdout
    assert "[4]" not in done.stdout
