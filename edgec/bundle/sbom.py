"""The bundle's bill of materials: CycloneDX 1.6 JSON, the same bytes for the same contents.

The model is a machine-learning-model component with the hash of each of its files; what it was made with are the
tools; what a device needs to run it are library components that the model depends on. No timestamp; the serial
number is derived from the contents (RFC 9562, version 5), as the specification allows.
Specification: https://cyclonedx.org/docs/1.6/json/.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgec.bundle.envelope import canonical

if TYPE_CHECKING:
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://edgec.dev/sbom")


@dataclass(frozen=True)
class Library:
    """A Python distribution, by name and version as the package index knows it."""

    name: str
    version: str


def make(
    name: str,
    version: str,
    hashes: Mapping[str, str],
    *,
    source_sha256: str,
    tools: Sequence[Library],
    engines: Sequence[Library],
    licence: str | None = None,
) -> bytes:
    """The bill of materials as canonical JSON.

    Args:
        name: the app's name.
        version: the app's version.
        hashes: member name -> SHA-256 (hex) of the payloads' files.
        source_sha256: of the model that was compiled.
        tools: what made the bundle.
        engines: what a device needs, as it was proven here.
        licence: SPDX id or expression of the model, where it is known.
    """
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.tool import ToolRepository
    from cyclonedx.output.json import JsonV1Dot6

    def digest(value: str) -> HashType:
        return HashType(alg=HashAlgorithm.SHA_256, content=value)

    files = [
        Component(type=ComponentType.FILE, name=member, bom_ref=f"file:{member}", hashes=[digest(sha256)])
        for member, sha256 in sorted(hashes.items())
    ]
    model = Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=name,
        version=version,
        bom_ref="model",
        licenses=_licences(licence),
        components=files,
        properties=[Property(name="edgec:source:sha256", value=source_sha256)],
    )
    needed = [_library(engine, "needs") for engine in _unique(engines)]
    bom = Bom(serial_number=None, components=needed)
    bom.metadata.timestamp = None  # type: ignore[assignment]
    bom.metadata.component = model
    bom.metadata.tools = ToolRepository(components=[_library(tool, "tool") for tool in _unique(tools)])
    bom.register_dependency(model, needed)
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    # The library stamps the time and a random number where none are given; ours follow from the contents alone.
    document["metadata"].pop("timestamp", None)
    document.pop("serialNumber", None)
    document["serialNumber"] = uuid.uuid5(NAMESPACE, canonical(document).decode()).urn
    return canonical(document)


def _library(library: Library, role: str) -> Component:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    purl = PackageURL("pypi", name=library.name, version=library.version)
    return Component(
        type=ComponentType.LIBRARY,
        name=library.name,
        version=library.version,
        purl=purl,
        bom_ref=f"{role}:{purl}",
    )


def _licences(licence: str | None) -> list[License]:
    if licence is None:
        return []
    from cyclonedx.contrib.license.factories import LicenseFactory

    return [LicenseFactory().make_from_string(licence)]


def _unique(libraries: Sequence[Library]) -> list[Library]:
    return sorted(set(libraries), key=lambda library: (library.name, library.version))
