"""How soon every server of a fleet refuses who was ended at one of them, when nothing is wrong.

Promised: normally within two seconds, and nobody is let in later than five seconds after the end was acknowledged
(docs/revocation.md). What holds while much is wrong is asked in `test_fleet.py`.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from botocore.credentials import Credentials

from fleet_calls import WHOAMI, Unanswered, call
from fleet_lab import START_SECONDS, Server, fleet, postgres_programs
from fleet_oracle import LATER, STALE_AFTER
from fleet_people import World, answered, done
from harness import at_best_within, scratch, wait_until
from test_fleet import asked, need_all, session_of

SERVERS = 3
#: How often each kind of end is tried: the server that is told is another one each time.
TRIES = int(os.environ.get("INBORN_REVOCATION_TRIES") or 6)
#: By when all know, in the middle of all tries. A computer that does much else at the same time makes some of them
#: late, and now and then most; servers that asked too seldom would always make most so.
SOON, ROUNDS = 2.0, 3
#: Until when somebody is asked who is still let in, or put off.
PATIENCE = 60.0
#: What ends somebody. Account and all come last: what is released with them is cut off for minutes ahead.
KINDS = ["termination", "quarantine", "quarantine of a host", "quarantine of an account", "quarantine of all"]


@dataclass
class Seen:
    """What one server said after an end was acknowledged; seconds since then."""

    #: When the last question was sent that somebody was let in with.
    let_in: float = 0.0
    #: When the answer was there that they are nobody.
    refused: float | None = None
    wrong: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Three servers, a host that has joined, and nothing that breaks."""
    need_all()
    with scratch() as place:
        (place / "home").mkdir(mode=0o755)
        with fleet(place, postgres_programs(), SERVERS, 1) as made:
            world = World(made, 0)
            world.join_hosts()
            yield world
            # Shown with a test that fails.
            print(made.logs())


def watch(world: World, server: Server, keys: Credentials, begun: float, seen: Seen) -> None:
    """Asks a server who somebody is until it says nobody."""
    world.fleet.operators.enter()
    while time.monotonic() - begun < PATIENCE:
        try:
            answer = call(server.endpoint, "sts", WHOAMI, keys)
        except Unanswered:
            # By a computer that has much else to do. Nobody was let in.
            continue
        if answer.status == 200:
            seen.let_in = answer.sent - begun
        elif answer.status == 403:
            seen.refused = time.monotonic() - begun
            return
        elif answer.status not in LATER and answer.status < 500:
            seen.wrong.append(answer.body)
            return
        time.sleep(0.02)
    seen.wrong.append(f"{server.name} has not refused within {PATIENCE} s")


def seen_by_all(world: World, keys: Credentials, begun: float) -> list[Seen]:
    seen = [Seen() for _ in world.fleet.servers]
    threads = [
        threading.Thread(target=watch, args=(world, server, keys, begun, one))
        for server, one in zip(world.fleet.servers, seen, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


@pytest.mark.timeout(300 + 20 * TRIES * ROUNDS)
@pytest.mark.parametrize("kind", KINDS)
def test_who_has_ended_is_refused_everywhere_soon(world: World, kind: str):
    at_best_within(SOON, lambda _: refused_everywhere(world, kind), ROUNDS)


def refused_everywhere(world: World, kind: str) -> float:
    """Ends somebody at each server; gives when all refuse, in the middle of all tries."""
    servers, host = world.fleet.servers, world.fleet.hosts[0]
    account = answered(lambda: asked(world, servers[0], "sts", WHOAMI)).all("Account")[0]
    last_let_in, refused = [], []
    for number in range(TRIES):
        told = servers[number % SERVERS]
        launch = f"RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1&Placement.HostId={host.id}"
        machine = done(world, told, launch).all("instanceId")[0]
        keys = session_of(world, machine)
        for server in servers:
            known = lambda s=server, k=keys: asked(world, s, "sts", WHOAMI, k).status == 200  # noqa: E731
            wait_until(known, f"{server.name} knows {machine}", START_SECONDS)
        subjects = {
            "quarantine": machine,
            "quarantine of a host": host.id,
            "quarantine of an account": account,
            "quarantine of all": "%2A",
        }
        of = lambda action: f"Inborn.{action}Quarantine&Subject.1={subjects[kind]}"  # noqa: E731,B023
        done(world, told, f"TerminateInstances&InstanceId.1={machine}" if kind == "termination" else of("Put"))
        begun = time.monotonic()
        seen = seen_by_all(world, keys, begun)
        assert not any(one.wrong for one in seen), seen
        assert seen[number % SERVERS].let_in == 0.0, "from the answer on, at the server that gave it"
        last_let_in += [one.let_in for one in seen]
        refused += [max(one.refused for one in seen)]
        if kind != "termination":
            done(world, told, of("End"))
            done(world, told, f"TerminateInstances&InstanceId.1={machine}")
    times, middle = ", ".join(f"{one:.2f}" for one in sorted(refused)), statistics.median(refused)
    print(f"{kind}: let in for {max(last_let_in):.2f} s at most; refused by all after {times} s; middle {middle:.2f} s")
    # However slow the computer: who has not heard of it by then may let nobody in.
    assert max(last_let_in) <= STALE_AFTER, last_let_in
    return middle
