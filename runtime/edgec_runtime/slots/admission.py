"""Whether a bundle may be installed here, decided from its signed manifest before a byte of its members is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from edgec_runtime import machine as machine_
from edgec_runtime import preflight, select
from edgec_runtime.bundle import dsse, manifest
from edgec_runtime.errors import Error, TrustError
from edgec_runtime.slots.active import slot
from edgec_runtime.slots.state import SLOTS, State


class Signed(NamedTuple):
    """A manifest that trusted keys have signed."""

    manifest: Mapping[str, Any]
    identity: str
    signers: tuple[str, ...]


def signed(envelope: bytes, trusted: Mapping[str, bytes], root: str) -> Signed:
    """Check who signed an envelope, its manifest, that nothing has expired, and that what is sealed can be opened.

    Raises TrustError: not signed, by strangers, by too few, damaged, expired, sealed with a key that this device was
    not given. BadInputError: it breaks the format.
    """
    from hashlib import sha256

    from edgec_runtime.trust import clock

    parsed = dsse.parse_envelope(envelope)
    signers = dsse.verify(parsed, trusted)
    if not signers:
        raise _nobody(parsed, trusted)
    whole = manifest.parse(parsed.payload)
    clock.refuse_expired(whole, trusted, root=root)
    if "encryption" in whole:
        from edgec_runtime.sealed import wrapped

        wrapped.content_key(root, whole["encryption"]["key"])
    return Signed(whole, sha256(parsed.payload).hexdigest(), signers)


def usable(whole: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The payloads that this machine can use with the engines that are installed, in order, as `select.distinct`.

    Raises UnsupportedError or MissingError where there is none, each payload listed with the reason.
    """
    here = machine_.this()
    here.memory = None  # what is free at this moment says nothing about later
    refused: select.Refused = {}
    found = []
    for entry in whole["payloads"]:
        refused[entry["id"]] = select.obstacle(entry, here, trusted=True) or ""
    for entry in select.order(whole["payloads"], here):
        if not refused[entry["id"]]:
            engine = select.engine_for(entry)
            library = None if isinstance(engine, str) else engine.library()
            if isinstance(engine, str):
                refused[entry["id"]] = engine
            elif library is not None and (why := next(preflight.library_problems(library, here), "")):
                refused[entry["id"]] = why
            else:
                found.append(entry)
    if not found:
        raise select.none_usable(whole["payloads"], refused, here)
    return select.distinct(found)


def needed(whole: Mapping[str, Any], entries: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The members that these payloads need, golden inputs and answers with them, in the manifest's order."""
    names = {name for entry in entries for name in entry["files"].values()}
    names |= {entry["golden"]["file"] for entry in entries if entry["golden"]}
    names |= {name for name in (whole["golden"]["inputs"],) if name}
    return [member for member in whole["members"] if member["name"] in names]


def not_older(app: str, whole: Mapping[str, Any], state: State, root: str) -> None:
    """Raise TrustError for a sequence below the security floor (E509) or below the active version's (E511)."""
    sequence = whole["app"]["sequence"]
    if sequence < state.floor:
        raise below_floor(app, sequence, state.floor)
    if state.active not in SLOTS:
        return
    try:
        active = slot(root, app, state, state.active).manifest["app"]["sequence"]
    except Error:
        return  # damaged: installing again is how it is mended
    if sequence < active:
        raise TrustError(
            f"the bundle is older than the active version of {app!r}",
            f"its sequence is {sequence}; {active} is installed",
            f"compile it again with a sequence from {active} on (compile --sequence)"
            + (f"; `edgec-rt rollback {app}` goes back to the version before" if state.other != "-" else ""),
            code="E511",
        )


def below_floor(app: str, sequence: int, floor: int) -> Error:
    """The security floor forbids a version."""
    return TrustError(
        f"the bundle's sequence {sequence} is below the app's security floor {floor}",
        f"a newer version of {app!r} has forbidden older ones",
        "install a bundle with a sequence from the floor on",
        code="E509",
    )


def _nobody(envelope: dsse.Envelope, trusted: Mapping[str, bytes]) -> Error:
    """Too few of the keys that this device trusts have signed."""
    if not envelope.signatures:
        return TrustError("the bundle is not signed", "anybody could have made it", "`edgec sign` it", code="E501")
    found, needed = len(dsse.signed_by(envelope, trusted)), getattr(trusted, "threshold", 1)
    return TrustError(
        "too few have signed the bundle" if found else "the bundle is signed by a stranger",
        f"{found} of the {len(trusted)} keys that this device trusts signed it; {needed} must",
        "have it signed by a key that this device trusts (`edgec sign`), or set the device up with yours",
        code="E514" if found else "E502",
    )
