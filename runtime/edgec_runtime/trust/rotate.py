"""The device's root metadata: pinned once, then replaced by its successors alone, one version after the other.

    trust/root.dsse   the envelope that counts
    trust/time        the last signed time that was seen (`trust.clock`)

A successor is the next version, signed by as many root keys as the version before asks for AND as many as it asks for
itself (TUF 1.0.33, section 5.3.4). Each is on the disk before the next is looked at; a power cut leaves one of them,
whole.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from edgec_runtime import root as root_
from edgec_runtime.bundle import dsse
from edgec_runtime.errors import TrustError
from edgec_runtime.slots import files, locks
from edgec_runtime.trust import clock, metadata, store, when

MAX_CHAIN = 1024  # envelopes in one update


def current(*, root: str | os.PathLike[str] | None = None) -> metadata.Root | None:
    """The root metadata that this device trusts, None where it has none. Raises TrustError where it is damaged."""
    return metadata.pinned(root_.find(root))


def update(envelopes: Sequence[bytes], *, root: str | os.PathLike[str] | None = None) -> int:
    """Follow a chain of root metadata from the version that is trusted; returns the version trusted afterwards.

    Args:
        envelopes: the successors in order. The trusted one itself may stand before them (a transfer that is repeated).
        root: the device's root folder.

    Raises:
        TrustError: no root is pinned (E523); not well formed (E515); too few of the old (E516) or new (E517) keys
            signed, or a signature is wrong (E503); an old version (E518) or one that skips a version (E519); signed
            before its predecessor (E521). What came before the bad one stays. Expired at the end of the chain (E513):
            the chain is trusted then, and nothing can be installed until its successor comes.
        UsageError: the root folder can't be written, or another process holds its lock.
    """
    if len(envelopes) > MAX_CHAIN:
        raise TrustError(
            f"{len(envelopes)} root metadata at once",
            f"at most {MAX_CHAIN} are read",
            "send them in parts",
            code="E519",
        )
    where = root_.find(root)
    with locks.writing(where), locks.locked(where):
        trusted = current(root=where)
        if trusted is None:
            raise TrustError(
                "this device has no root metadata to follow",
                "it trusts single keys; root metadata is pinned by whoever sets the device up",
                "run `edgec devices setup DEVICE --trust-root root.N.dsse`",
                code="E523",
            )
        for data in envelopes:
            after = metadata.parse(data)
            if after.envelope.payload == trusted.envelope.payload:
                continue
            follows(trusted, after)
            _persist(where, data, after)
            trusted = after
        clock.refuse_expired_root(trusted.release, root=where)
        return trusted.version


def pin(envelope: bytes, *, root: str | os.PathLike[str] | None = None) -> int:
    """Trust root metadata from now on, because whoever calls this says so; returns its version.

    For the first time only, over a channel that is trusted otherwise (SSH with a checked host key). The same one again
    changes nothing; another one is refused (E520): its successors come by `update`.

    Raises TrustError: not well formed (E515), not signed by its own threshold (E517), expired (E513), or another one is
    pinned. UsageError as `update`.
    """
    where = root_.find(root)
    fresh = metadata.whole(envelope)
    with locks.writing(where), locks.locked(where):
        known = current(root=where)
        if known is not None and known.envelope.payload != fresh.envelope.payload:
            raise _another(known, where)
        clock.refuse_expired_root(fresh.release, root=where)
        if known is None:
            _persist(where, envelope, fresh)
        return fresh.version


def adopt(chain: Sequence[bytes], *, root: str | os.PathLike[str] | None = None) -> int:
    """Bring a device to the end of a chain that its owner sends: pinned where it has none, followed where it has one.

    Returns the version that is trusted afterwards, the chain's last one. Raises as `pin` and `update`; E520 where the
    chain is another one than the device's, E524 where it ends before the device's version: nobody can tell whose it is.
    """
    where = root_.find(root)
    known = current(root=where)
    if known is None:
        return pin(chain[-1] if chain else b"", root=where)
    given = [metadata.parse(data) for data in chain]
    if not given or given[-1].version < known.version:
        raise TrustError(
            f"this device trusts version {known.version} of root metadata, which was not sent",
            f"what was sent ends with version {given[-1].version}: it is older, or another fleet's" if given else "",
            "get the newest root.N.dsse from whoever holds root keys: `edgec keys root --add FILE`",
            code="E524",
        )
    if any(g.version == known.version and g.envelope.payload != known.envelope.payload for g in given):
        raise _another(known, where)
    return update([data for data, found in zip(chain, given) if found.version > known.version], root=where)


def follows(before: metadata.Root, after: metadata.Root) -> None:
    """Raise TrustError where `after` is not the successor that the holders of `before`'s root keys made."""
    if after.version <= before.version:
        raise TrustError(
            f"root metadata of version {after.version} is not newer than version {before.version}",
            "going back would bring keys back that were taken out",
            "use the newest root.N.dsse",
            code="E518",
        )
    if after.version != before.version + 1:
        raise TrustError(
            f"root metadata of version {after.version} does not follow version {before.version}",
            "each version vouches for the next one; one in between is missing",
            f"send root.{before.version + 1}.dsse first",
            code="E519",
        )
    for role, code in ((before.root, "E516"), (after.root, "E517")):
        signers = dsse.signed_by(after.envelope, role)
        if len(signers) < role.threshold:
            raise TrustError(
                f"root metadata of version {after.version} is signed by {len(signers)} of {role.threshold} root keys",
                f"as many as version {role.version} asks for of its own root keys must sign it",
                "let another holder of a root key sign it: `edgec sign root.N.dsse --sign KEY`",
                code=code,
            )
    if when.parse(after.signed) < when.parse(before.signed):
        raise TrustError(
            f"root metadata of version {after.version} was signed before version {before.version}",
            f"{after.signed} is before {before.signed}: a signed time never goes back",
            "make it again: `edgec keys rotate`",
            code="E521",
        )


def _persist(where: str, data: bytes, fresh: metadata.Root) -> None:
    stage = os.path.join(where, "stage")
    files.make_folders(stage)
    files.make_folders(os.path.dirname(store.root_path(where)))
    clock.saw(fresh.signed, root=where)
    files.write_atomic(store.root_path(where), data, stage)


def _another(known: metadata.Root, where: str) -> TrustError:
    return TrustError(
        f"this device trusts other root metadata already (version {known.version})",
        "only its own root keys may replace it",
        f"sign a successor with them; if the device is yours: rm {store.root_path(where)}",
        code="E520",
    )
