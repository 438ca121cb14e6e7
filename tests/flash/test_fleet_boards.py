"""`edgec flash` to several real boards (a local sshd each, behind links of their own): at once, and in waves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edgec.devices import Address, inventory
from edgec.flash.fleet.history import path as history_path
from edgec_runtime.slots import status
from edgec_toolchains.boards import Link, LocalBoard, Server
from tests.command import edgec
from tests.devices.conftest import User
from tests.flash import boards

RATE = 1_000_000  # bytes per second


@dataclass
class Fleet:
    """Boards pi-0 … and their links; all are in the inventory."""

    names: list[str] = field(default_factory=list)
    boards: list[LocalBoard] = field(default_factory=list)
    roots: list[Path] = field(default_factory=list)

    @property
    def on(self) -> str:
        return ",".join(self.names)

    def versions(self) -> list[str | None]:
        return [next((s["version"] for s in status.status(root=root)), None) for root in self.roots]


@pytest.fixture
def fleet(server: Server, user: User, tmp_path: Path) -> Iterator[Fleet]:
    made, links, config, known = Fleet(), [], "", ""
    for n, kind in enumerate(("rpi4", "rpi4", "rpi5", "rpi5")):
        folder = tmp_path / f"board-{n}"
        board = LocalBoard(server, folder, environment={"EDGEC_ROOT": f"{folder}/home/edgec"})
        board.start()
        link = Link(board.port, bytes_per_second=RATE)
        name = f"pi-{n}"
        config += board.config(name, link.port)
        known += board.known_host(link.port)
        inventory.add(Address.parse(name), name=name, board=kind, now="2026-01-01")
        made.names.append(name)
        made.boards.append(board)
        made.roots.append(boards.set_up(board.home))
        links.append(link)
    user.config(config)
    user.known(known)
    yield made
    for link in links:
        link.close()
    for board in made.boards:
        board.kill()


def test_four_boards_at_once_and_one_that_is_not_set_up(fleet: Fleet, tmp_path: Path) -> None:
    bundle = boards.bundle(tmp_path / "one.edge", weights=boards.np_bytes(100_000, 1))
    (fleet.roots[2] / "bin" / "edgec-rt").unlink()
    done = edgec("flash", bundle, "--on", fleet.on, "--json")
    code, said = done.code, done.json
    assert code == 10 == said["exit_code"]
    assert [each["state"] for each in said["devices"]] == ["ok", "ok", "refused", "ok"]
    assert said["devices"][2]["error"]["code"] == "E1043"
    assert said["devices"][0]["result"]["sent"] > 100_000
    assert fleet.versions() == ["1.0", "1.0", None, "1.0"]


def test_a_rollout_halts_at_a_canary_and_a_mended_bundle_goes_through(fleet: Fleet, tmp_path: Path) -> None:
    good = boards.bundle(tmp_path / "one.edge")
    assert edgec("flash", good, "--on", fleet.on).code == 0
    # Its golden answers are another model's: each board finds that out for itself.
    bad = boards.bundle(tmp_path / "two.edge", version=2, model=b"no model at all")
    done = edgec("flash", bad, "--on", fleet.on, "--canary", "2", "--json")
    code, said = done.code, done.json
    assert code == 7 and said["state"] == "halted"
    assert sum(each["state"] == "failed" for each in said["devices"]) == 1
    assert fleet.versions() == ["1.0"] * 4  # the canary rolled back by itself
    again = edgec("flash", bad, "--on", fleet.on, "--canary", "2")
    assert again.code == 7 and "E720" in again.err
    mended = boards.bundle(tmp_path / "three.edge", version=3, op="Mul")
    done = edgec("flash", mended, "--on", fleet.on, "--canary", "50%", "--json")
    code, said = done.code, done.json
    assert code == 0 and said["state"] == "complete" and fleet.versions() == ["3.0"] * 4
    assert history_path().is_file()


def test_a_board_that_is_off_is_flashed_when_it_is_back(
    fleet: Fleet, user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgec.flash.fleet import command, policy

    quick = lambda share: policy.Policy(share, attempts=1, rounds=1)  # noqa: E731
    monkeypatch.setattr(command, "Policy", quick)
    # Without links, which answer for a board that is off.
    user.config("".join(board.config(name) for name, board in zip(fleet.names, fleet.boards, strict=True)))
    user.known("".join(board.known_host() for board in fleet.boards))
    fleet.boards[1].kill()
    bundle = boards.bundle(tmp_path / "one.edge")
    done = edgec("flash", bundle, "--on", fleet.on, "--canary", "1", "--json")
    code, said = done.code, done.json
    assert code == 11 and said["state"] == "waiting"
    assert fleet.versions() == ["1.0", None, "1.0", "1.0"]
    fleet.boards[1].start()
    done = edgec("flash", bundle, "--on", fleet.on, "--canary", "1", "--json")
    code, said = done.code, done.json
    assert code == 0 and said["state"] == "complete" and said["resumed"] and fleet.versions() == ["1.0"] * 4
