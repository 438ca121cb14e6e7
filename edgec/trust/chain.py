"""The versions of root metadata on this machine: `$EDGEC_CONFIG/trust/root.1.dsse`, `root.2.dsse` …

Each is written once and never changed: devices follow them one by one. A version that still lacks signatures is
`root.N.draft.dsse`; it goes from one holder of a root key to the next until it is complete.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgec.bundle import atomic, keys
from edgec.errors import BadInputError, MissingError, TrustError, UsageError
from edgec.trust import roots
from edgec_runtime.trust import metadata, rotate, store, when

_FILE = re.compile(r"root\.([1-9][0-9]{0,9})\.dsse")


@dataclass(frozen=True)
class Version:
    """A version of root metadata: where it lies, its bytes, what it says; `missing` signatures, none when complete."""

    path: Path
    data: bytes
    root: metadata.Root
    missing: tuple[roots.Missing, ...] = ()

    @property
    def number(self) -> int:
        """The version's number."""
        return self.root.version


def folder() -> Path:
    """Where the chain is; it need not exist yet."""
    return keys.folder().parent / "trust"


def chain() -> list[Version]:
    """All versions on this machine, oldest first, each signed as its predecessor asks; empty where there are none.

    It may begin with a later version than 1: whoever joins a team begins with what the team has.
    Raises TrustError where one is missing, damaged, or no successor.
    """
    found: list[Version] = []
    numbered = {int(m[1]): path for path in folder().glob("root.*.dsse") if (m := _FILE.fullmatch(path.name))}
    for number in sorted(numbered):
        version = read(numbered[number])
        if version.number != number:
            raise TrustError(
                f"{version.path} holds version {version.number}",
                "Its name says another.",
                "Look at where it came from.",
                code="E515",
            )
        if found:
            rotate.follows(found[-1].root, version.root)
        else:
            metadata.whole(version.data)
        found.append(version)
    return found


def newest() -> Version | None:
    """The last version on this machine, None where there is none. Raises as `chain`."""
    return next(reversed(chain()), None)


def read(path: Path) -> Version:
    """Root metadata from a file; its signatures are not looked at. Raises BadInputError, TrustError (E515)."""
    try:
        with path.open("rb") as file:
            data = file.read(store.MAX_ROOT + 1)
    except OSError as e:
        raise BadInputError(f"{path} can't be read", e.strerror or str(e), code="E913") from e
    return Version(path, data, metadata.parse(data))


def complete(path: Path) -> Version:
    """Root metadata from a file, signed as it asks for itself. Raises TrustError (E517) where some are missing."""
    found = read(path)
    metadata.whole(found.data)
    return found


def next_version(
    *,
    now: int,
    root_keys: Sequence[str] = (),
    root_threshold: int | None = None,
    release_keys: Sequence[str] = (),
    release_threshold: int | None = None,
    expires: str | None = None,
) -> Version:
    """Make the next version, signed by those of this user's keys that may; what is not named stays as it was.

    Args:
        now: seconds since 1970.
        root_keys, release_keys: the new keys of a role, all of them: names or ids of this user's keys, or PEM files.
        root_threshold, release_threshold: for the first version: more than half of the root keys, one release key.
        expires: when it expires (`when.FORM`); None for two years from now.

    Returns the version: in the chain where it is complete, else a draft that others must sign.
    Raises UsageError (E220): no keys, or a threshold out of reach.
    """
    before = newest()
    if before is None and not (root_keys and release_keys):
        raise UsageError(
            "the first root metadata needs its keys",
            "Root keys say who may sign; release keys sign bundles.",
            "edgec keys rotate --root-key NAME … --release-key NAME …",
            code="E220",
        )
    old = before.root if before else None
    new_root = _keys(root_keys) or dict(old.root if old else {})
    new_release = _keys(release_keys) or dict(old.release if old else {})
    signed = max(now, when.parse(old.signed) if old else 0)
    payload = roots.content(
        old.version + 1 if old else 1,
        roots.Role(new_root, root_threshold or (old.root.threshold if old else len(new_root) // 2 + 1)),
        roots.Role(new_release, release_threshold or (old.release.threshold if old else 1)),
        when.text(signed),
        expires or when.text(signed + roots.LIFE),
    )
    fresh = metadata.parse(roots.unsigned(payload))
    mine = roots.own_signers(fresh.root, *([old.root] if old else []))
    return _keep(roots.sign(roots.unsigned(payload), mine), None)


def sign(path: Path, signers: Sequence[keys.Signer]) -> Version:
    """Add signatures to a version in a file. Complete, it goes into this machine's chain, and a draft there goes away.

    Raises TrustError: the signer's key has no say in it (E522), not well formed, wrong signatures. MissingError where
    the version before is not on this machine, so that nobody can tell who must sign.
    """
    old = read(path)
    before = next((version.root for version in chain() if version.number == old.number - 1), None)
    allowed = {*old.root.root, *(before.root if before else ())}
    for signer in signers:
        if signer.public_key.keyid not in allowed:
            raise TrustError(
                f"the key {signer.public_key.keyid[:16]} has no say in version {old.number}",
                "It is no root key of that version, nor of the one before on this machine.",
                "Sign with one of these: " + ", ".join(sorted(name[:16] for name in allowed)) + ".",
                code="E522",
            )
    return _keep(roots.sign(old.data, signers), path)


def add(path: Path) -> Version:
    """Take a complete version that was made elsewhere into this machine's chain.

    The first one is believed as it is: compare its key ids with those of the people that you know. Raises TrustError
    where it does not follow the newest one here, or where signatures are missing.
    """
    given = complete(path)
    known = {version.number: version for version in chain()}
    if given.number in known:
        if known[given.number].root.envelope.payload != given.root.envelope.payload:
            raise TrustError(
                f"there is another version {given.number} on this machine",
                f"{known[given.number].path} was signed too: a chain must not fork.",
                "Ask the others who hold root keys which one devices have.",
                code="E518",
            )
        return known[given.number]
    if known:
        rotate.follows(known[max(known)].root, given.root)
    return _put(given.data, given.root)


def _keep(data: bytes, path: Path | None) -> Version:
    """In the chain where it is complete, else at `path`, else as a draft."""
    root = metadata.parse(data)
    versions = {version.number: version for version in chain()}
    if root.version > 1 and not {root.version - 1, root.version} & versions.keys():
        raise MissingError(
            f"version {root.version - 1} is not on this machine",
            f"Version {root.version} must be signed as that one asks.",
            "Get root.N.dsse from the others: edgec keys root --add FILE",
            code="E1010",
        )
    before = versions.get(root.version - 1)
    lacking = tuple(roots.missing(root, before.root if before else None))
    draft = folder() / f"root.{root.version}.draft.dsse"
    if lacking:
        where = path or draft
        _write(where, data)
        return Version(where, data, root, lacking)
    known = versions.get(root.version)
    kept = known if known and known.root.envelope.payload == root.envelope.payload else None
    if known and kept is None:
        raise TrustError(
            f"there is another version {root.version} on this machine",
            f"{known.path} was signed too: a chain must not fork.",
            f"Make version {max(versions) + 1} from it: edgec keys rotate",
            code="E518",
        )
    made = kept or _put(data, root)
    if path is not None and path.resolve() not in (draft.resolve(), made.path.resolve()):
        _write(path, data)
    return made


def _put(data: bytes, root: metadata.Root) -> Version:
    """Into the chain; a draft of that version has served its purpose then."""
    path = folder() / f"root.{root.version}.dsse"
    _write(path, data)
    with contextlib.suppress(FileNotFoundError):
        (folder() / f"root.{root.version}.draft.dsse").unlink()
    return Version(path, data, root)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(path) as (file, _):
        file.write(data)


def _keys(names: Sequence[str | os.PathLike[str]]) -> dict[str, bytes]:
    return dict(keys.public(name) for name in names)
