"""Prices measured on this machine, by profiles of three models of one search."""

from __future__ import annotations

from edgec.quantize.search import prices as pricing
from edgec.quantize.search.cut import Balance, Noise
from edgec.quantize.search.lab import Lab, Trial
from edgec.quantize.search.prices import Prices, Profile
from edgec.quantize.search.setup import Setup

EVERY = 3  # every third layer stays float in the model on which conversions are measured


def prices(setup: Setup, lab: Lab) -> Prices:
    """Profile the float model, all integer, and a mixture; profiles that the store has are not taken again."""
    mixed = frozenset(sorted(setup.layers)[::EVERY])
    in_float = _profile(setup, lab, None)
    in_integer, between = (_profile(setup, lab, floats) for floats in (frozenset[str](), mixed))
    made = pricing.from_profiles(setup.plan, setup.names, in_float, in_integer)
    formula = Balance(setup.model, setup.plan, Prices(), Noise({}, {})).conversions(mixed)
    return made.scaled(between.conversions, formula)


def _profile(setup: Setup, lab: Lab, floats: frozenset[str] | None) -> Profile:
    """Of an assignment without corrections, which change no time; None: of the float model."""
    which = "float" if floats is None else sorted(floats)
    trial = Trial("profile", {**setup.digests, "which": which}, pricing.profile, ())
    kept = lab.store.get(trial.name)
    if kept is None:
        content = setup.content
        if floats is not None:
            build = setup.trial(lab, floats, corrections=False)
            lab.run([build])
            content = lab.model(build)
        kept = lab.remember(trial, pricing.profile(content, setup.samples[0]).as_dict())
    return Profile(**kept)
