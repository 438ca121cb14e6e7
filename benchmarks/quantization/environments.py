"""Each peer in a Python environment of its own: build/peers/<peer>, made from environments/<peer>.txt.

What the installation took, its size and every package's version are kept beside it. One that doesn't install, takes
more than its time or its size is left with the reason, and is not tried again until its requirements change or
`again` is asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "build" / "peers"
REQUIREMENTS = Path(__file__).parent / "environments"
SECONDS, MEGABYTES = 480, 4000
"""What an installation may take."""


class UnavailableError(Exception):
    """A peer has no environment; the message is the reason."""


@dataclass(frozen=True)
class Environment:
    """An environment that stands.

    Attributes:
        name: the peer's.
        python: its interpreter.
        megabytes: of all files after the installation, bytecode included, 10^6 bytes each.
        seconds: wall time that the installation took.
        packages: every distribution in it, and its version.
    """

    name: str
    python: str
    megabytes: int
    seconds: int
    packages: dict[str, str] = field(default_factory=dict)


def prepare(name: str, *, again: bool = False) -> Environment:
    """The environment of a peer, made where it is missing or its requirements changed.

    Raises:
        UnavailableError: it can't be installed within the limits.
    """
    requirements = REQUIREMENTS / f"{name}.txt"
    return _made(name, ["-r", str(requirements)], _digest(requirements), again)


def prepare_own(*, again: bool = False) -> Environment:
    """What `pip install edgec` gives: its own wheels, built from this checkout, in an empty environment.

    Raises:
        UnavailableError: the wheels can't be built or installed.
    """
    sources = [ROOT / "pyproject.toml", ROOT / "runtime" / "pyproject.toml"]
    wheels = PEERS / "wheels"
    key = _digest(*sources)
    if again or not list(wheels.glob(f"{key}/*.whl")):
        for source in (ROOT / "runtime", ROOT):
            build = [sys.executable, "-m", "build", "-q", "--wheel", "--no-isolation", "--outdir", str(wheels / key)]
            done = subprocess.run([*build, str(source)], capture_output=True, text=True, check=False)
            if done.returncode:
                raise UnavailableError(f"the wheel of {source.name} can't be built: {_last(done.stderr)}")
    return _made("edgec", [str(f) for f in sorted((wheels / key).glob("*.whl"))], key, again)


def _made(name: str, arguments: list[str], key: str, again: bool) -> Environment:
    folder, record = PEERS / name, PEERS / f"{name}.json"
    kept = json.loads(record.read_text()) if record.exists() else {}
    if kept.pop("key", None) == key and not again:
        if "failed" in kept:
            raise UnavailableError(kept["failed"])
        if Path(kept["python"]).exists():
            return Environment(**kept)
    record.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    start = time.monotonic()
    try:
        _install(folder, arguments)
        python = str(folder / "bin" / "python")
        listed = subprocess.run(
            [python, "-m", "pip", "list", "--format=json"], check=True, capture_output=True, text=True
        ).stdout
        packages = {p["name"]: p["version"] for p in json.loads(listed)}
        made = Environment(name, python, size(folder), round(time.monotonic() - start), packages)
    except UnavailableError as error:
        shutil.rmtree(folder, ignore_errors=True)
        record.write_text(json.dumps({"key": key, "failed": str(error)}))
        raise
    record.write_text(json.dumps({"key": key, **asdict(made)}, indent=1))
    return made


def _install(folder: Path, arguments: list[str]) -> None:
    """A new environment and `pip install` into it; stopped where it outgrows the limits."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
    log = folder / "install.log"
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *arguments]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with log.open("w") as output:
        pip = subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)
        start, reason = time.monotonic(), ""
        while pip.poll() is None and not reason:
            time.sleep(3)
            if time.monotonic() - start > SECONDS:
                reason = f"installing takes more than {SECONDS // 60} minutes"
            elif size(folder) > MEGABYTES:
                reason = f"the environment outgrows {MEGABYTES / 1000:g} GB"
        if reason:
            os.killpg(pip.pid, signal.SIGKILL)
            pip.wait()
            raise UnavailableError(reason)
    if pip.returncode:
        raise UnavailableError(f"does not install: {_last(log.read_text())}")


def size(folder: Path) -> int:
    """10^6 bytes of all files under a folder; links count as themselves."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_size
            except FileNotFoundError:  # pip is still moving things
                continue
    return round(total / 1e6)


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"\0".join(f.read_bytes() for f in files)).hexdigest()[:16]


def _last(text: str) -> str:
    """The last line that says what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.upper().startswith("ERROR")]
    return (errors or lines or ["no message"])[-1][:300]
