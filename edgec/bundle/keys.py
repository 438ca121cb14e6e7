"""Signing keys on the developer's machine: Ed25519, one PKCS#8 PEM file a key, readable by its owner alone.

`$EDGEC_CONFIG/keys`, else the user's configuration folder: `<name>.key` (private, mode 0600) and `<name>.pem`
(public, SubjectPublicKeyInfo: the file to give to others). A key's id is the SHA-256 (hex) of the 32 raw bytes of
its public key (RFC 8032), the same on the device. Which keys this machine trusts is the device root's affair:
`edgec_runtime.trust.store`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from securesystemslib.signer import CryptoSigner, Signer, SSlibKey

from edgec.bundle import atomic
from edgec.errors import BadInputError, MissingError, TrustError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = [
    "DEVELOPMENT", "KeyInfo", "Signer", "development_key", "folder", "key_id", "list_keys", "load", "new", "public",
    "public_pem", "trust",
]  # fmt: skip

DEVELOPMENT = "development"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class KeyInfo:
    """A key of this user. `trusted`: this machine's device root accepts bundles that it signed."""

    name: str
    key_id: str
    private: Path
    public: Path
    trusted: bool


def folder() -> Path:
    """Where the private keys are; it need not exist yet."""
    override = os.environ.get("EDGEC_CONFIG")
    if override:
        return Path(override) / "keys"
    from platformdirs import user_config_dir

    return Path(user_config_dir("edgec")) / "keys"


def new(name: str) -> KeyInfo:
    """Make a key pair. Raises UsageError where the name is no plain file name or is taken."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = _path(name)
    key = Ed25519PrivateKey.generate()
    try:
        private.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_once(private, _private_pem(key), 0o600)
        # The public half can be made again from the private one: a stale file of that name gives way.
        private.with_suffix(".pem").write_bytes(public_pem(key.public_key()))
    except FileExistsError as e:
        raise UsageError(
            f"There is a key named '{name}' already",
            f"{private} exists, and bundles signed with it may be in use.",
            "Choose another name.",
            code="E210",
        ) from e
    except OSError as e:
        raise BadInputError(
            f"The key can't be written to {private.parent}",
            e.strerror or str(e),
            "Set EDGEC_CONFIG to a folder that you may write.",
            code="E910",
        ) from e
    return _info(private)


def list_keys() -> list[KeyInfo]:
    """This user's keys, sorted by name."""
    return [_info(path) for path in sorted(folder().glob("*.key"))]


def load(name: str | os.PathLike[str]) -> CryptoSigner:
    """The signer of a key: a name from `list_keys`, or the path of a PKCS#8 PEM file with an Ed25519 private key.

    Its `public_key.keyid` is edgec's key id. Raises MissingError where there is no such key, TrustError where a key
    in the key folder can be read by others, BadInputError where the file is no such key.
    """
    path = Path(name)
    own = isinstance(name, str) and _NAME.fullmatch(name) is not None and _path(name).exists()
    if own:
        path = _path(str(name))
    elif not path.is_file():
        raise MissingError(
            f"No key named '{os.fspath(name)}'",
            f"Neither {folder()} nor that path has it.",
            "'edgec keys list' shows the keys, 'edgec keys new NAME' makes one.",
            code="E1010",
        )
    if own and os.name == "posix" and path.stat().st_mode & 0o077:
        raise TrustError(
            f"The private key {path} can be read by others",
            "Whoever can read it can sign as you.",
            f"chmod 600 '{path}', or make a new key if it may have been read.",
            code="E510",
        )
    key = _read_private(path)
    public = key.public_key()
    return CryptoSigner(key, SSlibKey.from_crypto(public, keyid=key_id(public)))


def development_key() -> CryptoSigner:
    """The key that signs when no other is named; made at first use and trusted on this machine alone."""
    if not _path(DEVELOPMENT).exists():
        # Another process may make it at the same moment: whoever was first wins.
        with contextlib.suppress(UsageError):
            new(DEVELOPMENT)
    signer = load(DEVELOPMENT)
    if signer.public_key.keyid not in _trusted():
        trust(DEVELOPMENT)
    return signer


def trust(key: str | os.PathLike[str]) -> str:
    """Let this machine's device root accept bundles signed by `key`; returns the key id.

    `key` is the path of a public key (PEM), or the name or id of one of this user's keys. Raises BadInputError for
    a file that is no Ed25519 public key (a private key is refused: it should not travel), MissingError for an
    unknown name or id.
    """
    from edgec_runtime import root

    public = _public(key)
    identifier = key_id(public)
    folder = Path(root.find()) / "trust"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise TrustError(
            f"The key can't be put into {folder}",
            f"{e.strerror or e}: the device root belongs to someone else.",
            "Run 'edgec keys trust' as its owner, or set EDGEC_ROOT to a folder of your own.",
            code="E512",
        ) from e
    with atomic.replacing(folder / f"{identifier}.pem") as (file, _):
        file.write(public_pem(public))
    return identifier


def public(key: str | os.PathLike[str]) -> tuple[str, bytes]:
    """(key id, 32 raw bytes) of a public key: the path of a PEM file, or the name or id of one of this user's keys.

    Raises as `trust`.
    """
    found = _public(key)
    return key_id(found), found.public_bytes_raw()


def public_pem(key: Ed25519PublicKey) -> bytes:
    """A public key as SubjectPublicKeyInfo in PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def key_id(key: Ed25519PublicKey) -> str:
    """SHA-256 (hex) of the 32 raw bytes of the public key."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()


def _path(name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' can't be a key's name",
            "It becomes a file name: letters, digits, '.', '_' and '-', at most 64.",
            "Choose a name like 'release-2026'.",
            code="E211",
        )
    return folder() / f"{name}.key"


def _private_pem(key: Ed25519PrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write_once(path: Path, data: bytes, mode: int) -> None:
    """Write a whole new file or raise FileExistsError: a link makes it appear complete, and never over another."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.link(temporary, path)
    finally:
        temporary.unlink()


def _read_private(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as e:
        raise BadInputError(f"The key {path} can't be read", e.strerror or str(e), code="E913") from e
    except TypeError as e:
        raise BadInputError(
            f"The key {path} has a pass phrase",
            "edgec signs without asking.",
            "Write it without one: openssl pkcs8 -in KEY -out NEW -topk8 -nocrypt",
            code="E913",
        ) from e
    except Exception as e:  # cryptography raises ValueError, UnsupportedAlgorithm and others for a broken file
        raise _no_key(path, "private", "PKCS#8 PEM") from e
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "private", "PKCS#8 PEM")
    return key


def _public(key: str | os.PathLike[str]) -> Ed25519PublicKey:
    """The public key given as path, or as name or id of one of this user's keys."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    for own in list_keys() if isinstance(key, str) else []:
        if key in (own.name, own.key_id):
            return _read_private(own.private).public_key()
    path = Path(key)
    if not path.is_file():
        raise MissingError(
            f"No key '{os.fspath(key)}' to trust",
            "It is neither a file nor the name or id of one of your keys.",
            "Give the path of the public key (.pem) of whoever signs.",
            code="E1010",
        )
    try:
        loaded = load_pem_public_key(path.read_bytes())
    except OSError as e:
        raise BadInputError(f"The key {path} can't be read", e.strerror or str(e), code="E913") from e
    except Exception as e:  # as in _read_private
        raise _no_key(path, "public", "PEM") from e
    if not isinstance(loaded, Ed25519PublicKey):
        raise _no_key(path, "public", "PEM")
    return loaded


def _no_key(path: Path, half: str, form: str) -> BadInputError:
    return BadInputError(
        f"{path} is no Ed25519 {half} key",
        f"edgec signs with Ed25519 and reads {half} keys as {form}.",
        "'edgec keys new NAME' makes a pair: NAME.key to sign with, NAME.pem to give away.",
        code="E913",
    )


def _info(private: Path) -> KeyInfo:
    identifier = key_id(_read_private(private).public_key())
    return KeyInfo(private.stem, identifier, private, private.with_suffix(".pem"), identifier in _trusted())


def _trusted() -> set[str]:
    from edgec_runtime.trust import store

    return set(store.load_trusted())
