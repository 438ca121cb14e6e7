"""What is cut: a program of the device each, what was there before, which version is due after which promise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.flash.crash_device import Device
from tests.flash.crash_programs import (
    Mark,
    both_on_trial,
    collecting,
    confirm_if_due,
    confirming,
    cramped,
    decide_then_install,
    half_sent,
    installing,
    left_on_trial,
    litter,
    on_probation,
    other_is_there,
    other_went_back,
    patching,
    recovering,
    removing,
    resume,
    roll_back_if_new,
    rolling_back,
    then_install,
    told_why,
    two_apps,
    with_versions,
)
from tests.flash.crash_trust import (
    floor_is_kept,
    key_again,
    key_is_kept,
    making_a_key,
    pin_again,
    pinning,
    raising_the_floor,
    remove_and_try_the_old,
    root_is_kept,
    rooted,
    rotate_again,
    rotating,
    somebody_is_trusted,
)

Versions = set[int | None]


def nothing(device: Device, marks: tuple[str, ...]) -> str:
    return ""


@dataclass(frozen=True)
class Scenario:
    """A program that is cut.

    Attributes:
        prepare: what is on the device before.
        run: the program; it marks what it has promised.
        allowed: by the last promise, "" before the first: the versions of which one must be current after recovery.
        again: what the user does next; it must work in whatever state.
        end: the version that is current after that.
        also: what else must hold after recovery; returns what is wrong.
        restarted: whether the device starts anew between the two, as it does where the program is `recover`.
    """

    prepare: Callable[[Device], None]
    run: Callable[[Device, Mark], None]
    allowed: Mapping[str, Versions]
    again: Callable[[Device], Any]
    end: Versions
    also: Callable[[Device, tuple[str, ...]], str] = field(default=nothing)
    restarted: bool = False


SCENARIOS: dict[str, Scenario] = {
    "first install": Scenario(
        with_versions(), installing(1), {"": {None, 1}, "acknowledged": {1}, "committed": {1}}, then_install(1), {1}
    ),
    "update": Scenario(
        with_versions(1), installing(2), {"": {1, 2}, "acknowledged": {2}, "committed": {2}}, then_install(2), {2}
    ),
    "third version": Scenario(
        with_versions(1, 2), installing(3), {"": {2, 3}, "acknowledged": {3}, "committed": {3}}, then_install(3), {3}
    ),
    "resumed transfer": Scenario(
        with_versions(1), resume, {"": {1, 2}, "acknowledged": {2}, "committed": {2}}, then_install(2), {2}
    ),
    "update that fails": Scenario(
        with_versions(1), installing(2, good=False), {"": {1}, "acknowledged": {1}, "rolled-back": {1}},
        then_install(3), {3}, told_why,
    ),
    "first install that fails": Scenario(
        with_versions(), installing(1, good=False), {"": {None}, "acknowledged": {None}, "rolled-back": {None}},
        then_install(1), {1}, told_why,
    ),
    "manual rollback": Scenario(
        with_versions(1, 2), rolling_back, {"": {1, 2}, "rolled back": {1}}, roll_back_if_new, {1}
    ),
    "probation": Scenario(
        with_versions(1), installing(2, confirm="manual", deadline=60.0),
        {"": {1, 2}, "acknowledged": {2}, "probation": {2}}, confirm_if_due, {2},
    ),
    "confirmation": Scenario(on_probation, confirming, {"": {2}, "confirmed": {2}}, confirm_if_due, {2}),
    "rollback of a probation": Scenario(
        on_probation, rolling_back, {"": {1, 2}, "rolled back": {1}}, decide_then_install, {3}
    ),
    "recovery": Scenario(
        left_on_trial(2), recovering, {"": {2}, "recovered": {2}}, then_install(2), {2}, restarted=True
    ),
    "recovery that undoes": Scenario(
        left_on_trial(2, good=False), recovering, {"": {1}, "recovered": {1}}, then_install(3), {3}, told_why,
        restarted=True,
    ),
    "recovery of two apps": Scenario(
        both_on_trial, recovering, {"": {2}, "recovered": {2}}, then_install(3), {3}, other_went_back, restarted=True
    ),
    "recovery of a probation": Scenario(
        on_probation, recovering, {"": {2}, "recovered": {2}}, confirm_if_due, {2}, restarted=True,
    ),
    "recovery of half a transfer": Scenario(
        half_sent, recovering, {"": {1}, "recovered": {1}}, then_install(2), {2}, restarted=True,
    ),
    "collection": Scenario(
        litter, collecting, {"": {3}, "collected": {3}}, lambda device: device.rollback(), {2}
    ),
    "removal": Scenario(
        two_apps, removing, {"": {None, 2}, "removed": {None}}, then_install(3), {3}, other_is_there
    ),
    "room made": Scenario(
        with_versions(1, 2), cramped, {"": {2, 3}, "acknowledged": {3}, "committed": {3}}, then_install(3), {3}
    ),
    "delta": Scenario(
        with_versions(1), patching, {"": {1, 2}, "acknowledged": {2}, "committed": {2}}, then_install(2), {2}
    ),
    "security floor": Scenario(
        with_versions(1), raising_the_floor, {"": {1, 2}, "acknowledged": {2}, "committed": {2}},
        remove_and_try_the_old, {3}, floor_is_kept,
    ),
    "pinning": Scenario(with_versions(1), pinning, {"": {1}, "pinned": {1}}, pin_again, {2}, somebody_is_trusted),
    "device key": Scenario(with_versions(1), making_a_key, {"": {1}, "key": {1}}, key_again, {2}, key_is_kept),
    "key rotation": Scenario(
        rooted, rotating, {"": {1}, "root 2": {1}, "root 4": {1}}, rotate_again, {2}, root_is_kept
    ),
}  # fmt: skip
