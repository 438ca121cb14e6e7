"""A recipe is replayed only on the model and the data that it was made from."""

from __future__ import annotations

from edgec.bundle.recipe import Recipe
from edgec.errors import NotIdenticalError
from edgec.frontends import Imported
from edgec.stages.inputs import Inputs


def check(recipe: Recipe, imported: Imported, given: Inputs) -> None:
    """Raises NotIdenticalError (exit 8) naming what is not the same or was not given again."""
    if recipe.source["sha256"] != imported.sha256:
        raise NotIdenticalError(
            "this is not the model that the bundle was made from",
            f"Its SHA-256 is {imported.sha256[:16]}…, the recipe's {str(recipe.source['sha256'])[:16]}….",
            "Give the same file with --model.",
            code="E802",
        )
    wanted, have = dict(recipe.data), given.record()
    for what, flag in (("calibration", "--calib"), ("evaluation", "--eval")):
        if what in wanted and what not in have:
            raise NotIdenticalError(f"the bundle was made with {what} data", "None was given.", f"Add {flag} DATA.", code="E802")
        if what in have and what not in wanted:
            raise NotIdenticalError(f"the bundle was made without {what} data", fix=f"Leave out {flag}.", code="E802")
    if wanted.get("calibration") != have.get("calibration"):
        raise NotIdenticalError(
            "this is not the calibration data that the bundle was made with",
            f"The recipe has {wanted['calibration']}, the data given {have['calibration']}.",
            "Give the same data with --calib.",
            code="E802",
        )
