"""`edgec keys`: make, list and trust signing keys; root metadata, which says who may sign for a fleet."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.common import Output, options

SOON = 90  # days before its expiry that root metadata should be renewed

if TYPE_CHECKING:
    from edgec.trust.chain import Version


@click.group("keys")
def command() -> None:
    """Make, list and trust signing keys (Ed25519); say who may sign for a fleet (rotate, root)."""


@command.command("new")
@click.argument("name")
@options
def new(out: Output, name: str) -> None:
    """Make a key pair named NAME in your key folder."""
    from edgec.bundle import keys

    made = keys.new(name)
    out.line(f"key {made.name} {made.key_id}")
    out.line(f"  private  {made.private}  (keep it to yourself)")
    out.line(f"  public   {made.public}  (devices trust this file)")
    out.result(_as_dict(made))
    out.next(f"edgec sign model.edge --sign {made.name}")


@command.command("list")
@options
def show(out: Output) -> None:
    """List your keys and whether this machine trusts them."""
    from edgec.bundle import keys

    found = keys.list_keys()
    if found:
        rows = [[k.name, k.key_id[:16], "yes" if k.trusted else "no", str(k.public)] for k in found]
        out.table("Keys", ["name", "id", "trusted here", "public key"], rows)
    else:
        out.line(f"no keys in {keys.folder()}")
    out.result({"folder": str(keys.folder()), "keys": [_as_dict(k) for k in found]})
    out.next("edgec keys new NAME")


@command.command("trust")
@click.argument("key")
@options
def trust(out: Output, key: str) -> None:
    """Let this machine load bundles signed by KEY: a public key file (.pem), or the name or id of one of your keys."""
    from edgec.bundle import keys
    from edgec_runtime import root
    from edgec_runtime.trust import store

    identifier = keys.trust(key)
    trusted = store.load_trusted()
    if trusted.version:
        out.line(f"put into {root.find()}/trust, where it does not count: root metadata is pinned there", "yellow")
    else:
        out.line(f"trusted on this machine: {identifier}")
    out.result({"key_id": identifier, "root_version": trusted.version})
    out.next("edgec verify model.edge")


@command.command("rotate")
@click.option("--root-key", "root_keys", multiple=True, metavar="KEY", help="A root key; name all that shall count.")
@click.option("--root-threshold", type=click.IntRange(1), metavar="M", help="Root keys that must sign [first: > half].")
@click.option("--release-key", "release_keys", multiple=True, metavar="KEY", help="A release key; name all.")
@click.option("--release-threshold", type=click.IntRange(1), metavar="M", help="Release keys that must sign a bundle.")
@click.option("--expires", metavar="DATE", help="No new installations after this day [default: in two years].")
@options
def rotate(out: Output, expires: str | None, **asked: Any) -> None:
    """Make the first root metadata, or its next version: other keys, other thresholds, a later expiry.

    What is not named stays as it is. KEY is the name or id of one of your keys, or a public key file. Your keys that
    may sign do so at once; where others must sign too, a draft is written for them.
    """
    from edgec.trust import chain, dates

    made = chain.next_version(now=int(time.time()), expires=dates.expiry(expires) if expires else None, **asked)
    told(out, made)


@command.command("root")
@click.option("--add", "files", multiple=True, metavar="FILE", help="Take a complete version from a file, in order.")
@options
def root_(out: Output, files: tuple[str, ...]) -> None:
    """Show who may sign for your fleet: the newest root metadata on this machine."""
    from pathlib import Path

    from edgec.trust import chain

    for name in files:
        chain.add(Path(name))
    newest = chain.newest()
    if newest is None:
        out.line(f"no root metadata in {chain.folder()}: devices trust single keys")
        out.result({"folder": str(chain.folder()), "version": 0})
        out.next("edgec keys rotate --root-key NAME --release-key NAME")
        return
    told(out, newest)


def told(out: Output, version: Version) -> None:
    """Say what a version of root metadata says, and who must still sign it."""
    from edgec.bundle import keys

    names = {key.key_id: key.name for key in keys.list_keys()}
    roles = {"root": version.root.root, "release": version.root.release}
    out.line(f"root metadata, version {version.number}: {version.path}")
    for role, trusted in roles.items():
        said = ", ".join(f"{names[key]} {key[:16]}" if key in names else key[:16] for key in trusted)
        out.line(f"  {role:8} {trusted.threshold} of {len(trusted)}: {said}")
    out.line(f"  signed   {version.root.signed}, expires {version.root.expires}")
    for lack in version.missing:
        who = ", ".join(f"{names[key]} {key[:16]}" if key in names else key[:16] for key in lack.of)
        out.line(f"  missing  {lack.need} more, as version {lack.version} asks: {who}", "yellow")
    for note in notes(version, time.time()):
        out.line(f"note: {note}", "yellow")
    out.result(
        {
            "file": str(version.path),
            "version": version.number,
            "signed": version.root.signed,
            "expires": version.root.expires,
            "roles": {role: {"keys": list(keys_), "threshold": keys_.threshold} for role, keys_ in roles.items()},
            "missing": [{"version": m.version, "need": m.need, "keys": list(m.of)} for m in version.missing],
        }
    )
    if version.missing:
        out.next(f"edgec sign {version.path} --sign KEY")
    elif version.number == 1:
        out.next("edgec devices setup DEVICE")
    else:
        out.next("edgec flash model.edge --on DEVICE")


def notes(version: Version, now: float) -> list[str]:
    """What whoever holds root keys should know before it is too late."""
    from edgec_runtime.trust import when

    root, found = version.root, []
    if root.root.threshold == len(root.root):
        found.append("every root key must sign: if one is lost, no device can be told of other keys any more")
    days = (when.parse(root.expires) - now) / 86400
    if days < SOON:
        said = f"expires in {days:.0f} days" if days > 0 else "has expired"
        found.append(f"it {said}: devices install nothing then; edgec keys rotate renews it")
    if when.parse(root.signed) > now + 86400:
        found.append(f"its signed time {root.signed} is ahead of this machine's clock: for devices that time has come")
    return found


def _as_dict(key: object) -> dict[str, object]:
    from dataclasses import asdict

    from edgec.bundle.keys import KeyInfo

    assert isinstance(key, KeyInfo)
    return {k: str(v) if k in ("private", "public") else v for k, v in asdict(key).items()}
