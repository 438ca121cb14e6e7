"""What the user asked for: the values that `edgec compile` takes, checked, and as the recipe records them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from edgec.errors import UsageError
from edgec.trust import dates
from edgec_runtime.bundle.manifest import HOOK_POINTS, MAX_HOOKS, hook_name

Form = Literal["int8-dynamic", "int8-weights", "int4-weights", "float16", "bfloat16", "int16x8"]
"""What a whole model can be made in one call (`edgec.quantize.forms`), besides static int8."""
Precision = Literal["auto", "float32", "int8", Form]
Effort = Literal["plain", "default", "search"]
Golden = Literal["data", "synthetic", "none"]
Method = Literal["minmax", "average", "histogram", "entropy", "mse", "l4", "output"]
EFFORTS: tuple[Effort, ...] = get_args(Effort)
FORMS: tuple[Form, ...] = get_args(Form)
PRECISIONS: tuple[Precision, ...] = ("auto", "float32", "int8", *FORMS)
METHODS: tuple[Method, ...] = get_args(Method)
"""How ranges may be taken (docs/quantization.md). Here, since the command line names them before it imports a room."""


@dataclass(frozen=True)
class Request:
    """One compile, as asked. Data and model are not here: they are named by digest in the recipe.

    `max_drop` is the budget's text ("0.5%", "0.5pt", "0.005") or None: then the default of 1 % holds where int8 was
    not asked for by name, and nothing is refused where it was (a search always has one). `confidence`: the budget must
    hold for the drop's upper bound at it. `engines`: payloads for these alone; none named: for all that a board may
    have. `golden` None: real inputs where there is data. `security_floor`: once the bundle is confirmed on a device, no
    lower sequence may be installed there. `expires`: no new installations after it (kept as it is signed). `hooks`: for
    each point of an update, names of programs in the device's own folder of hooks.
    """

    boards: tuple[str, ...]
    precision: Precision = "auto"
    effort: Effort = "default"
    max_drop: str | None = None
    confidence: float | None = None
    shapes: Mapping[str, Sequence[int | str]] = field(default_factory=dict)
    exclude: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    method: Method = "minmax"
    golden: Golden | None = None
    name: str | None = None
    version: str = "0.0.0"
    sequence: int = 1
    security_floor: int | None = None
    expires: str | None = None
    hooks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.boards:
            raise UsageError(
                "no board was named", "edgec compiles for boards.", "Add -t BOARD; `edgec boards` lists them."
            )
        if len(set(self.boards)) != len(self.boards):
            raise UsageError("a board is named twice", fix="Name each board once.")
        for value, allowed, flag in (
            (self.precision, PRECISIONS, "--precision"),
            (self.effort, EFFORTS, "--effort"),
            (self.method, METHODS, "--method"),
            (self.golden, (None, "data", "synthetic", "none"), "--golden"),
        ):
            if value not in allowed:
                raise UsageError(
                    f"{flag} {value} is not known", fix=f"One of: {', '.join(str(a) for a in allowed if a)}."
                )
        if self.effort == "search" and self.precision in FORMS:
            raise UsageError(
                f"--effort search does not look for {self.precision}",
                "It mixes int8 and float layer by layer.",
                "Use it with --precision int8 or auto, or leave it out.",
                code="E212",
            )
        if self.confidence is not None and not 0.5 <= self.confidence < 1:
            raise UsageError(
                f"--confidence {self.confidence:g} is no confidence",
                "It is the probability that the budget really holds.",
                "Use one from 0.5 to under 1, such as 0.95.",
                code="E217",
            )
        if self.security_floor is not None and not 0 <= self.security_floor <= self.sequence:
            raise UsageError(
                f"--security-floor {self.security_floor} is not within the sequence {self.sequence}",
                "A bundle whose floor is above its own sequence would forbid itself.",
                f"Use a floor up to {self.sequence}, or raise --sequence.",
                code="E219",
            )
        if self.expires is not None:
            object.__setattr__(self, "expires", dates.expiry(self.expires))
        for point, names in self.hooks.items():
            if point not in HOOK_POINTS or not 0 < len(names) <= MAX_HOOKS or not all(map(hook_name, names)):
                raise UsageError(
                    f"--hook {point}={','.join(names)} is no hook",
                    f"A hook is a plain file name, for one of the points {', '.join(HOOK_POINTS)}.",
                    "For example --hook health=check-camera; the file lies in the device's /etc/edgec/hooks.",
                    code="E222",
                )

    def as_dict(self) -> dict[str, Any]:
        """JSON values only, as recipe.json holds them."""
        return {
            **asdict(self),
            "boards": list(self.boards),
            "exclude": list(self.exclude),
            "engines": list(self.engines),
            "shapes": {name: list(dims) for name, dims in self.shapes.items()},
            "hooks": {point: list(names) for point, names in self.hooks.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Request:
        """The inverse of `as_dict`; unknown or missing keys raise UsageError."""
        try:
            return cls(
                **{
                    **values,
                    "boards": tuple(values["boards"]),
                    "exclude": tuple(values["exclude"]),
                    "engines": tuple(values["engines"]),
                }
            )
        except (KeyError, TypeError) as e:
            raise UsageError(
                "the recipe asks for something this edgec doesn't know", str(e), "Use the edgec that made it."
            ) from e
