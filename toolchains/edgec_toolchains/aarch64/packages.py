"""Debian packages of any architecture, unpacked into a folder: no root, no chroot, nothing installed.

apt runs on a state of its own, so the system's is neither read nor changed. It checks the signature of the package
lists and the hash of each package; no maintainer script runs.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgec_runtime.errors import MissingError

MIRROR = "EDGEC_DEBIAN_MIRROR"
"""Environment variable that names a Debian mirror, for systems whose own apt has none."""

SUITE = "bookworm"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

_CONFIGURATION = """\
Dir::State "{state}";
Dir::State::Lists "{state}/lists";
Dir::State::status "{state}/status";
Dir::Cache "{state}/cache";
Dir::Etc::sourcelist "{state}/sources.list";
Dir::Etc::sourceparts "/dev/null";
APT::Architecture "{first}";
APT::Architectures {{ {all} }};
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
APT::Sandbox::User "";
"""


@dataclass(frozen=True)
class Package:
    """A package as it was downloaded."""

    name: str
    version: str
    architecture: str
    sha256: str


def unpack(wanted: Sequence[str], folder: Path, state: Path, *, leave_out: Sequence[str] = ()) -> tuple[Package, ...]:
    """Download packages (`name:architecture`) and unpack all of them into `folder`, which may exist.

    Args:
        wanted: exactly these; dependencies are not followed.
        folder: where the files go.
        state: apt's folder: package lists and downloads, kept for the next time.
        leave_out: tar patterns of files not to unpack, such as "./usr/share/doc/*".

    Raises MissingError (exit 10) where apt, a mirror, the network or a package is missing.
    """
    archives = state / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "LC_ALL": "C", "APT_CONFIG": str(_configure(state, wanted))}
    missing = [name for name in wanted if not (archives / f"{name}.deb").is_file()]
    if missing:
        _call(["apt-get", "-qq", "update"], environment, archives)
        _download(missing, archives, environment)
    return tuple(_extract(archives / f"{name}.deb", folder, environment, leave_out) for name in wanted)


def needs(wanted: str, state: Path) -> tuple[str, ...]:
    """The names of the packages that a package (`name:architecture`) depends on, as its own file says.

    Raises as `unpack` does.
    """
    archives = state / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "LC_ALL": "C", "APT_CONFIG": str(_configure(state, [wanted]))}
    archive = archives / f"{wanted}.deb"
    if not archive.is_file():
        _call(["apt-get", "-qq", "update"], environment, archives)
        _download([wanted], archives, environment)
    text = _call(["dpkg-deb", "-f", str(archive), "Depends"], environment, archives)
    return tuple(word.split()[0] for word in text.split(",") if word.split())


def machine() -> str:
    """This machine's architecture in Debian's words, e.g. "amd64"."""
    return _call(["dpkg", "--print-architecture"], {**os.environ, "LC_ALL": "C"}, Path()).strip()


def _download(names: Sequence[str], archives: Path, environment: dict[str, str]) -> None:
    """Download packages into `archives`, each as NAME:ARCHITECTURE.deb. apt compares their hashes."""
    with tempfile.TemporaryDirectory(dir=archives) as work:
        _call(["apt-get", "-qq", "download", *names], environment, Path(work))
        for archive in Path(work).glob("*.deb"):
            about = _about(archive, environment)
            asked = next((n for n in names if n.partition(":")[0] == about["Package"]), None)
            if asked:
                archive.rename(archives / f"{asked}.deb")
    lacking = [name for name in names if not (archives / f"{name}.deb").is_file()]
    if lacking:
        raise _missing(f"apt did not download {', '.join(lacking)}")


def _extract(archive: Path, folder: Path, environment: dict[str, str], leave_out: Sequence[str]) -> Package:
    patterns = [f"--exclude={pattern}" for pattern in leave_out]
    command = ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", str(folder), *patterns]
    try:
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE, env=environment
        ) as files:
            done = subprocess.run(command, stdin=files.stdout, env=environment, capture_output=True, text=True)
    except OSError as e:
        raise _missing(str(e)) from e
    if files.returncode or done.returncode:
        archive.unlink()  # damaged: the next call downloads it again
        raise _missing(f"{archive.name} can't be unpacked: {done.stderr}")
    about = _about(archive, environment)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    return Package(about["Package"], about["Version"], about["Architecture"], digest)


def _about(archive: Path, environment: dict[str, str]) -> dict[str, str]:
    fields = ["Package", "Version", "Architecture"]
    text = _call(["dpkg-deb", "-f", str(archive), *fields], environment, archive.parent)
    return dict(line.split(": ", 1) for line in text.splitlines())


def _configure(state: Path, wanted: Sequence[str]) -> Path:
    """Write apt's configuration for this state; returns its path."""
    architectures = list(dict.fromkeys(name.partition(":")[2] for name in wanted))
    for part in ("lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    mirror = os.environ.get(MIRROR) or _own_mirror()
    signed = f"[signed-by={KEYRING}] " if Path(KEYRING).is_file() else ""
    (state / "sources.list").write_text(f"deb {signed}{mirror} {SUITE} main\n")
    known = " ".join(f'"{name}";' for name in architectures)
    path = state / "apt.conf"
    path.write_text(_CONFIGURATION.format(state=state.resolve(), first=architectures[0], all=known))
    return path


def _own_mirror() -> str:
    """The Debian mirror that this system's apt uses."""
    words = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(SITE)", "Created-By: Packages"]
    for line in _call(words, {**os.environ, "LC_ALL": "C"}, Path()).splitlines():
        origin, _, site = line.partition(" ")
        if origin == "Debian" and "security" not in site:
            return site
    # Before the first `apt-get update` apt knows no origins: the configured sites are all there is to go by.
    words[3] = "$(SITE)"
    for site in _call(words, {**os.environ, "LC_ALL": "C"}, Path()).splitlines():
        if site.rstrip("/").endswith("/debian"):
            return site
    raise MissingError(
        "this system's apt has no Debian mirror", "the emulated ARM system is made of Debian's packages",
        f"Set {MIRROR} to the address of one, and install debian-archive-keyring.", code="E1031",
    )  # fmt: skip


def _call(command: Sequence[str], environment: dict[str, str], folder: Path) -> str:
    try:
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=True)
    except OSError as e:
        raise _missing(str(e)) from e
    except subprocess.CalledProcessError as e:
        raise _missing(f"{' '.join(command)}: {e.stderr or e.stdout}") from e
    return done.stdout


def _missing(why: str) -> MissingError:
    return MissingError(
        "the emulated ARM system can't be set up", " ".join(why.split())[-300:],
        "It takes apt-get, dpkg-deb, tar and a network that reaches a Debian mirror; run it again: it goes on where it "
        "stopped.", code="E1031",
    )  # fmt: skip
