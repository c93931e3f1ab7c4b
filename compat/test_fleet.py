"""A fleet of real processes that breaks: three region servers over a pair of PostgreSQL, five hosts, their machines.

The network is the test's own. What may never be is in `fleet_oracle.py`; what goes wrong in `fleet_trouble.py`, drawn
from a seed. `INBORN_SEED` names it, `INBORN_TROUBLE_SECONDS` how long it lasts. Processes do not run twice in the same
way: a seed brings back the plan, not each moment of it.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_lab import START_SECONDS, Fleet, Network, Node, fleet, postgres_programs
from fleet_people import Operator, World
from fleet_trouble import CALM_SECONDS, Trouble, all_ready, check_afterwards, described, people
from harness import ROOT, scratch, wait_until
from lab import Lab
from netlab import CI

SERVERS, HOSTS = 3, 5
SECONDS = float(os.environ.get("INBORN_TROUBLE_SECONDS") or 60)
#: Writers while the primary is lost, and how long after a standby was promoted each has to write again, at the latest.
#: Source: docs/stores.md.
WRITERS, GOES_ON_WITHIN = 6, 15.0


def lacks() -> str | None:
    """Why there can be no fleet here."""
    if not ROOT:
        return "a network of one's own needs root"
    needed = {"ip": "iproute2", "nsenter": "util-linux", "setpriv": "util-linux"}
    for program, package in needed.items():
        if shutil.which(program) is None:
            return f"`{program}` is not here: apt-get install {package}"
    return None if postgres_programs() else "no PostgreSQL here: apt-get install postgresql"


def need_all() -> None:
    reason = lacks()
    if reason is not None:
        if CI:
            pytest.fail(f"on CI nobody reads that this was skipped: {reason}")
        pytest.skip(f"NOT TESTED: {reason}")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """The fleet, whole, with its hosts; the tests of this file come one after the other to it."""
    need_all()
    seed = int(os.environ.get("INBORN_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed {seed}: INBORN_SEED={seed} brings back the plan")
    with scratch() as place:
        (place / "home").mkdir(mode=0o755)
        with fleet(place, postgres_programs(), SERVERS, HOSTS) as made:
            if made.network.loses_with is None:
                print("!! no packets are lost here: neither `nft` nor the kernel's netem is there")
            world = World(made, seed)
            try:
                world.join_hosts()
                yield world
            finally:
                world.calm.set()
                world.over.set()
                world.join()


def verdict(world: World) -> None:
    """Fails with all that happened, if something did that may not."""
    print(f"seed {world.seed}: {dict(sorted(world.oracle.summary.items()))}")
    found = world.oracle.verdict()
    assert not found, f"seed {world.seed}\n{world.fleet.logs()}\n\n{found}"


def test_what_breaks_is_broken_and_whole_again():
    """Datagrams there and back: a fault that is none would find nothing."""
    need_all()
    lab = Lab()
    try:
        network = Network(lab)
        one, other = Node(network, "one", 1), Node(network, "other", 2)
        sockets = [node.space.do(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for node in (one, other)]
        for node, end in zip((one, other), sockets, strict=True):
            end.bind((node.address, 9))
            end.settimeout(0.2)

        def arrives() -> list[int]:
            """How many of fifty arrive at the other, and at the one."""
            counts = []
            for sender, receiver in (sockets, sockets[::-1]):
                for _ in range(50):
                    with contextlib.suppress(OSError):
                        sender.sendto(b"x", receiver.getsockname())
                counts.append(0)
                with contextlib.suppress(TimeoutError):
                    while receiver.recv(1):
                        counts[-1] += 1
            return counts

        wait_until(lambda: arrives() == [50, 50], "the switch works")
        for fault, left in (
            (network.unplugged(other), [0, 0]),
            (network.silenced(other, one), [50, 0]),
            (network.parted([one], [other]), [0, 0]),
        ):
            with fault:
                assert arrives() == left
            wait_until(lambda: arrives() == [50, 50], "it works again")
        with network.parted([one], [other]):
            with network.silenced(one, other):
                pass
            assert arrives() == [0, 0], "two faults are not over when one is"
        if network.loses_with is not None:
            with network.losing(50):
                assert all(0 < count < 50 for count in arrives())
        wait_until(lambda: arrives() == [50, 50], "it works again")
        for end in sockets:
            end.close()
    finally:
        lab.close()


def test_a_fleet_that_cannot_be_made_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch):
    need_all()
    made, make = [], tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **more: made.append(make(**more)) or made[-1])
    before = set(Path("/run/netns").glob(f"inb{os.getpid() % 0x10000:x}x*"))
    (place / "b").mkdir()
    with pytest.raises(FileExistsError), fleet(place, postgres_programs(), SERVERS, HOSTS):
        pass
    assert len(made) == 2 and not any(Path(one).exists() for one in made)
    assert set(Path("/run/netns").glob(f"inb{os.getpid() % 0x10000:x}x*")) == before


# With the fleet that it is the first to ask for.
@pytest.mark.timeout(900)
def test_a_failover_loses_no_answered_launch(world: World):
    """The primary is killed while machines are launched at every server, and its standby is promoted."""
    made: Fleet = world.fleet
    stop_at, went_on = [time.monotonic() + 600], {}
    promoted: list[float] = []

    def write(number: int) -> None:
        made.operators.enter()
        operator = Operator(world, f"writer {number}")
        while time.monotonic() < stop_at[0] and not world.over.is_set():
            begun = time.monotonic()
            is_done = operator.launch(None)
            if is_done and promoted and begun > promoted[0]:
                went_on.setdefault(number, time.monotonic() - promoted[0])
            time.sleep(0.05)

    def launched() -> int:
        return world.oracle.summary.get("launched", 0)

    old, new = made.databases[made.primary], made.databases[1 - made.primary]
    writers = [world.spawn(f"writer {number}", lambda number=number: write(number)) for number in range(WRITERS)]
    try:
        wait_until(lambda: launched() > WRITERS, "machines are launched", START_SECONDS)
        before = launched()
        old.kill()
        world.note(f"the primary {old.node.name} is killed")
        new.promote()
        promoted.append(time.monotonic())
        world.note(f"{new.node.name} is promoted")
        made.primary = 1 - made.primary
        stop_at[0] = time.monotonic() + GOES_ON_WITHIN
        for writer in writers:
            writer.join()
        answered = list(world.oracle.machines)
        print(f"{before} were launched before, {launched() - before} after; each wrote again after: {went_on}")
        assert len(went_on) == WRITERS and max(went_on.values()) < GOES_ON_WITHIN, went_on
        all_ready(world)
        for server in made.servers:
            states = described(world, server)
            lost = [id for id in answered if states.get(id) != "running"]
            assert not lost, f"{server.name} knows nothing of {len(lost)} machines that were answered, as {lost[0]}"
        verdict(world)
    finally:
        # The next test finds the fleet whole, whatever became of this one.
        stop_at[0] = 0.0
        for writer in writers:
            writer.join()
        if promoted:
            old.follow(new)
        elif old.process.poll() is not None:
            old.start()


@pytest.mark.timeout(600 + 2 * SECONDS)
def test_what_may_never_be_is_not_whatever_breaks(world: World):
    people(world)
    time.sleep(5)
    Trouble(world, SECONDS).make()
    world.note("all is well again")
    world.calm.set()
    time.sleep(CALM_SECONDS)
    world.over.set()
    world.join()
    check_afterwards(world)
    verdict(world)
    summary = world.oracle.summary
    for what in ("launched", "ended", "let in", "refused", "held", "lists", "given", "compared", "epochs"):
        assert summary.get(what, 0) > 0, f"nobody was {what}: this has tested nothing"
    for what in ("broken", "killed", "promoted", "evicted"):
        assert summary.get(what, 0) > 0, f"nothing was {what}, and all went well:\n{world.oracle.timeline()}"
    assert summary.get("hosts refused: not-placed", 0) > 0, "no host asked for a machine of another"
