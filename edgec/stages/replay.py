"""A recipe is replayed only on the model and the data that it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgec.bundle.recipe import Recipe
from edgec.errors import BadInputError, NotIdenticalError
from edgec.frontends import Imported
from edgec.stages.inputs import Inputs


def source(recipe: Recipe, imported: Imported) -> None:
    """Raises NotIdenticalError (exit 8) where this is another model."""
    if recipe.source["sha256"] != imported.sha256:
        raise NotIdenticalError(
            "this is not the model that the bundle was made from",
            f"Its SHA-256 is {imported.sha256[:16]}…, the recipe's {str(recipe.source['sha256'])[:16]}….",
            "Give the same file with --model.",
            code="E802",
        )


def data(recipe: Recipe, calibration: bool, evaluation: bool) -> None:
    """Raises NotIdenticalError where data was not given again, or was not used."""
    have = {"calibration": calibration, "evaluation": evaluation}
    for what, flag in (("calibration", "--calib"), ("evaluation", "--eval")):
        if what in recipe.data and not have[what]:
            raise NotIdenticalError(
                f"the bundle was made with {what} data", "None was given.", f"Add {flag} DATA.", code="E802"
            )
        if have[what] and what not in recipe.data:
            raise NotIdenticalError(f"the bundle was made without {what} data", fix=f"Leave out {flag}.", code="E802")


def content(recipe: Recipe, given: Inputs) -> None:
    """Raises NotIdenticalError where the calibration data holds something else."""
    wanted, have = recipe.data.get("calibration"), given.record().get("calibration")
    if wanted != have:
        raise NotIdenticalError(
            "this is not the calibration data that the bundle was made with",
            f"The recipe has {wanted}, the data given {have}.",
            "Give the same data with --calib.",
            code="E802",
        )


def searched(recipe: Recipe, name: str) -> Mapping[str, Any]:
    """What the search for a model found. Raises BadInputError where the recipe does not say it."""
    found = recipe.measured.get("search")
    report = found.get(name) if isinstance(found, Mapping) else None
    floats = report.get("floats", 0) if isinstance(report, Mapping) else 0
    if not isinstance(report, Mapping) or not (
        floats is None or (isinstance(floats, list) and all(isinstance(layer, str) for layer in floats))
    ):
        raise BadInputError(
            "The recipe can't be read",
            f"it was made by a search, and doesn't say what that found for '{name}'",
            "Use the edgec that made it; 'edgec inspect FILE' names its version.",
            code="E917",
        )
    return report
