"""A fleet of real processes that breaks: three region servers over a pair of PostgreSQL, five hosts, their machines.

The network is the test's own. What may never be is in `fleet_oracle.py`; what goes wrong in `fleet_trouble.py`, drawn
from a seed. `INBORN_SEED` names it, `INBORN_TROUBLE_SECONDS` how long it lasts. Processes do not run twice in the same
way: a seed brings back the plan, not each moment of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.credentials import Credentials

from fleet_calls import WHOAMI, Answer, Looked, call, credentials_for, look
from fleet_lab import FAKETIME, HOSTS_PORT, START_SECONDS, Fleet, Host, Network, Node, Server, fleet, postgres_programs
from fleet_people import EC2, METADATA_SECONDS, Operator, World, done
from fleet_trouble import CALM_SECONDS, Trouble, all_ready, check_afterwards, described, operations, people, readiness
from harness import ROOT, scratch, wait_until
from lab import Lab
from netlab import CI

SERVERS, HOSTS = 3, 5
#: How far a server's clock is ahead, or behind, in seconds: drawn from the seed, if the variable says no other number.
CLOCKS = (-20, 20)
CLOCK = int(os.environ.get("INBORN_CLOCK_SECONDS") or 0)
SECONDS = float(os.environ.get("INBORN_TROUBLE_SECONDS") or 60)
#: Writers while the primary is lost, and how long after a standby was promoted each has to write again, at the latest.
#: Source: docs/stores.md.
WRITERS, GOES_ON_WITHIN = 6, 15.0
#: How long who is late is waited for, so that it is known how late.
LATE_WITHIN = 60.0


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


def need_faults(network: Network) -> None:
    """Says which faults there are none of here. One way to each is enough: not every kernel has netem."""
    lacking = []
    if network.loses_with is None:
        lacking.append("no packets are lost here: neither `nft` nor the kernel's netem is there")
    if network.slows_with is None:
        lacking.append("no database is slow here: neither netem nor tbf is in the kernel, or `tc` is not there")
    for line in lacking:
        print(f"!! {line}")
    if CI and lacking:
        pytest.fail(f"on CI nobody reads that faults were left out: {'; '.join(lacking)}")
    print(f"packets are lost by {network.loses_with}, databases are slow by {(network.slows_with or ['nothing'])[0]}")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """The fleet, whole, with its hosts; the tests of this file come one after the other to it."""
    need_all()
    seed = int(os.environ.get("INBORN_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed {seed}: INBORN_SEED={seed} brings back the plan")
    with scratch() as place:
        (place / "home").mkdir(mode=0o755)
        with fleet(place, postgres_programs(), SERVERS, HOSTS) as made:
            need_faults(made.network)
            set_a_clock(made, seed)
            world = World(made, seed)
            try:
                world.join_hosts()
                yield world
            finally:
                world.calm.set()
                world.over.set()
                world.join()


def set_a_clock(made: Fleet, seed: int) -> None:
    """One of the servers has another clock, as far off as it may be. Source: docs/stores.md."""
    if FAKETIME is None:
        if CI:
            pytest.fail("on CI nobody reads that all clocks were right: no libfaketime")
        print("!! all clocks are right here: no libfaketime; on Debian: apt-get install libfaketime")
        return
    dice = random.Random(f"{seed} clock")
    server, seconds = dice.choice(made.servers), CLOCK or dice.choice(CLOCKS)
    print(f"the clock of server {server.name} is {seconds:+d} s off")
    start_with_clock(server, seconds)


def start_with_clock(server: Server, seconds: int) -> None:
    server.kill()
    server.set_clock(seconds)
    assert server.start(), server.log.read_text()


def verdict(world: World) -> None:
    """Fails with all that happened, if something did that may not."""
    print(f"seed {world.seed}: {dict(sorted(world.oracle.summary.items()))}")
    found = world.oracle.verdict()
    assert not found, f"seed {world.seed}\n{world.fleet.logs()}\n\n{found}"


# Beside much else a datagram that is not taken is waited for a hundred times over.
@pytest.mark.timeout(300)
def test_what_breaks_is_broken_and_whole_again():
    """Datagrams there and back: a fault that is none would find nothing."""
    need_all()
    lab = Lab()
    try:
        network = Network(lab)
        need_faults(network)
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
        if network.slows_with is not None:
            with network.slowed(other):
                begun = time.monotonic()
                for _ in range(20):
                    sockets[1].sendto(b"x" * 1000, sockets[0].getsockname())
                sockets[0].settimeout(30)
                assert sum(len(sockets[0].recv(2000)) for _ in range(20)) == 20_000
                assert time.monotonic() - begun > 0.1, "what is slow is not fast"
                sockets[0].settimeout(0.2)
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
    went_on = failed_over(world)
    if went_on >= GOES_ON_WITHIN:
        # A busy computer is slow now and then; who does not look for the new primary always is.
        went_on = failed_over(world)
    assert went_on < GOES_ON_WITHIN


def failed_over(world: World) -> float:
    """The primary is killed while machines are launched at every server, and its standby is promoted.

    Gives when the last writer wrote again, after the promotion.
    """
    made: Fleet = world.fleet
    stop_at, late_at, went_on = [time.monotonic() + 600], [0.0], {}
    promoted: list[float] = []

    def write(number: int) -> None:
        made.operators.enter()
        operator = Operator(world, f"writer {number}")
        while not world.over.is_set() and (time.monotonic() < stop_at[0] or is_late(number)):
            begun = time.monotonic()
            is_done = operator.launch(None)
            if is_done and promoted and begun > promoted[0]:
                went_on.setdefault(number, time.monotonic() - promoted[0])
            time.sleep(0.05)

    def is_late(number: int) -> bool:
        return number not in went_on and time.monotonic() < late_at[0]

    def launched() -> int:
        return world.oracle.summary.get("launched", 0)

    first = launched()
    old, new = made.databases[made.primary], made.databases[1 - made.primary]
    writers = [world.spawn(f"writer {number}", lambda number=number: write(number)) for number in range(WRITERS)]
    try:
        wait_until(lambda: launched() > first + WRITERS, "machines are launched", START_SECONDS)
        before = launched()
        old.kill()
        world.note(f"the primary {old.node.name} is killed")
        new.promote()
        promoted.append(time.monotonic())
        world.note(f"{new.node.name} is promoted")
        made.primary = 1 - made.primary
        stop_at[0], late_at[0] = promoted[0] + GOES_ON_WITHIN, promoted[0] + LATE_WITHIN
        for writer in writers:
            writer.join()
        answered = list(world.oracle.machines)
        print(f"{before} were launched before, {launched() - before} after; each wrote again after: {went_on}")
        assert len(went_on) == WRITERS, went_on
        all_ready(world)
        for server in made.servers:
            states = described(world, server)
            lost = [id for id in answered if states.get(id) != "running"]
            assert not lost, f"{server.name} knows nothing of {len(lost)} machines that were answered, as {lost[0]}"
        verdict(world)
        return max(went_on.values())
    finally:
        # The next test finds the fleet whole, whatever became of this one.
        stop_at[0] = late_at[0] = 0.0
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
    for what in ("broken", "killed", "promoted", "evicted", "revoked", "quarantined: a host", "quarantined: all"):
        assert summary.get(what, 0) > 0, f"nothing was {what}, and all went well:\n{world.oracle.timeline()}"
    assert summary.get("hosts refused: not-placed", 0) > 0, "no host asked for a machine of another"


#: When a server that hears nothing is stale, and when it lets no session in any more, whatever its policies.
#: Source: docs/stores.md.
STALE_AFTER, LAPSED_AFTER = 5.0, 15.0
#: How often it is tried to ask all questions between the two: a computer that has much else to do may be too slow.
TRIES = 5
LAUNCH = "RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1"


@pytest.mark.timeout(900)
def test_a_server_without_the_database_says_who_somebody_is_and_changes_nothing(place: Path):
    """The default policies, at a server that has lost the databases, beside one that has not."""
    need_all()
    with fleet(place, postgres_programs(), 2, 1, stale=()) as made:
        world = World(made, 0)
        world.join_hosts()
        lonely, other = made.servers
        assert launched(world, "one", made.hosts[0])
        [machine, *_] = world.oracle.machines
        session = session_of(world, machine)
        databases = [database.node for database in made.databases]
        for _ in range(TRIES):
            with made.network.parted([lonely.node], databases):
                lost = time.monotonic()
                wait_until(lambda: "fleet" in readiness(lonely)[1], f"{lonely.name} says that it is stale", 60)
                before = stale_calls(lonely)
                begun = time.monotonic()
                changed = asked(world, lonely, "ec2", f"Action={LAUNCH}&{EC2}")
                read, known = (
                    asked(world, lonely, "ec2", f"Action={one}&{EC2}")
                    for one in ("DescribeInstances", "DescribeRegions")
                )
                who, whose = (asked(world, lonely, "sts", WHOAMI, keys) for keys in (None, session))
                given = fleet_given(world, lonely, machine)
                ended = time.monotonic()
                after = stale_calls(lonely)
                # The other one has lost nothing.
                assert asked(world, other, "sts", WHOAMI, session).status == 200
                assert launched(world, "two", None)
            all_ready(world)
            if begun - lost > STALE_AFTER and ended - lost < LAPSED_AFTER:
                break
        else:
            pytest.fail(f"in {TRIES} tries this computer did not ask within {LAPSED_AFTER - STALE_AFTER} s")
        assert (changed.status, changed.code) == (503, "Unavailable"), changed.body
        # What is only in the database is there again when that is; what the server knows, it tells.
        assert (read.status, read.code) == (503, "Unavailable"), read.body
        assert (known.status, who.status, whose.status) == (200, 200, 200), (known.body, who.body, whose.body)
        assert machine in whose.all("Arn")[0]
        assert given.status == 503, given.body
        raised = {what for what, count in after.items() if count > before.get(what, 0)}
        assert {("ec2", "refused"), ("ec2", "served"), ("sts", "served")} <= raised and ("sts", "refused") not in raised
        # What was refused was not done, and all is well again.
        states = described(world, lonely)
        assert set(states) == set(world.oracle.machines) == set(described(world, other))
        assert asked(world, lonely, "sts", WHOAMI, session).status == 200
        assert launched(world, "three", None)


#: How often a guest looks after a change, and for how long: until the clock that is right has caught up.
LOOK_EVERY, LOOKS_FOR = 0.1, CLOCKS[1] + 5.0
#: Longer than the test looks at a machine's credentials.
LONG_BEFORE_ROTATION = 180
#: How long it may take until a host has heard of a launch or a start that was acknowledged, and has credentials for it.
STARTED_WITHIN = 15.0


@pytest.mark.timeout(900)
def test_a_server_whose_clock_is_ahead_leaves_no_machine_without_credentials(place: Path):
    """What belongs to a launch, a reboot or a start there is dated ahead, handed out at once, and let in at once."""
    need_all()
    if FAKETIME is None:
        if CI:
            pytest.fail("on CI nobody reads that this was skipped: apt-get install libfaketime")
        pytest.skip("NOT TESTED: no libfaketime: apt-get install libfaketime")
    with fleet(place, postgres_programs(), 2, 1, stale=()) as made:
        world = World(made, 0)
        world.join_hosts()
        ahead, right = made.servers
        host = made.hosts[0]
        start_with_clock(ahead, CLOCKS[1])
        all_ready(world)
        machine, begun = launched_long_before_rotation(world, ahead, host)
        wait_until(lambda: host.attach(machine), "the host knows the machine", START_SECONDS)

        def looked() -> Looked:
            return host.node.space.do(lambda: look(host.endpoints[machine], METADATA_SECONDS))

        def held_all_the_while(until: float) -> list[Credentials]:
            """Looks again and again; gives what was found, each once."""
            found: dict[str, Credentials] = {}
            while time.monotonic() < until:
                one = looked().credential
                assert one is not None, f"no credential: {looked().why}"
                found.setdefault(one.key, Credentials(one.key, one.secret, one.token))
                time.sleep(LOOK_EVERY)
            return list(found.values())

        first = wait_until(lambda: looked().credential, "the machine has a credential", STARTED_WITHIN)
        print(f"a launch: held {time.monotonic() - begun:.1f} s after it")
        assert time.monotonic() - begun < CLOCKS[1], "nobody had to wait for it so long that this tests nothing"
        before = Credentials(first.key, first.secret, first.token)
        for server in made.servers:
            assert asked(world, server, "sts", WHOAMI, before).status == 200
        # A reboot ends nothing: at no moment there is nothing.
        done(world, ahead, f"RebootInstances&InstanceId.1={machine}")
        held = held_all_the_while(time.monotonic() + LOOKS_FOR)
        found = [keys for keys in held if keys.access_key != before.access_key]
        assert len(found) == 1, "those of the new boot, after those of before"
        for server in made.servers:
            assert [asked(world, server, "sts", WHOAMI, keys).status for keys in (before, *found)] == [200] * 2
        # A start does: what was before stays ended, what comes after it is there at once.
        done(world, right, f"StopInstances&InstanceId.1={machine}")
        wait_until(lambda: looked().credential is None, "the host has heard of the stop", STARTED_WITHIN)
        begun = time.monotonic()
        done(world, ahead, f"StartInstances&InstanceId.1={machine}")
        wait_until(lambda: looked().credential, "the machine has a credential again", STARTED_WITHIN)
        print(f"a start: held {time.monotonic() - begun:.1f} s after it")
        [again] = held_all_the_while(begun + LOOKS_FOR)
        for server in made.servers:
            assert asked(world, server, "sts", WHOAMI, again).status == 200
            for keys in (before, *found):
                assert asked(world, server, "sts", WHOAMI, keys).code == "ExpiredToken"


def launched(world: World, name: str, host: Host | None) -> bool:
    """Whether an operator has launched a machine on a host, or on none."""
    return world.fleet.operators.space.do(lambda: Operator(world, name).launch(host))


def launched_long_before_rotation(world: World, server: Server, host: Host) -> tuple[str, float]:
    """A machine on a host, and when its launch was answered.

    Once an hour, at a second that is each machine's own whatever becomes of it, others take the place of its
    credentials: not while the test counts them.
    """
    while True:
        answer = done(world, server, f"{LAUNCH}&Placement.HostId={host.id}")
        begun = time.monotonic()
        [machine] = answer.all("instanceId")
        if given_soon(world, server, machine)["next_at"] - time.time() > LONG_BEFORE_ROTATION:
            return machine, begun
        done(world, server, f"TerminateInstances&InstanceId.1={machine}")


def asked(world: World, server: Server, service: str, body: str, keys: Credentials | None = None) -> Answer:
    """Asks as the operator, or as who has the keys."""
    ask = lambda: call(server.endpoint, service, body, keys or world.operator)  # noqa: E731
    return world.fleet.operators.space.do(ask)


def session_of(world: World, machine: str) -> Credentials:
    """A machine's session, as its host is given it."""
    given = given_soon(world, world.fleet.servers[0], machine)["v2"]
    return Credentials(given["access_key_id"], given["secret_access_key"], given["session_token"])


def given_soon(world: World, server: Server, machine: str) -> dict:
    """The credentials of the present hour that a server gives to the host of a machine, as soon as it does."""

    def ask() -> dict | None:
        answer = fleet_given(world, server, machine)
        generations = json.loads(answer.body).get("generations") if answer.status == 200 else None
        return generations[0] if generations else None

    return wait_until(ask, "the region gives credentials", START_SECONDS)


def fleet_given(world: World, server: Server, machine: str) -> Answer:
    """What a server answers to the host of a machine that asks for its credentials."""
    address, context = (server.node.address, HOSTS_PORT), world.contexts[0]
    return world.fleet.operators.space.do(lambda: credentials_for(address, context, [machine]))


def stale_calls(server: Server) -> dict[tuple[str, str], float]:
    """How many calls a server has counted while it was stale, by service and what became of them."""
    status, text = operations(server, "/metrics")
    assert status == 200, text
    line = r'^inborn_stale_calls_total\{(?=.*service="([^"]*)")(?=.*outcome="([^"]*)").*\} (\S+)$'
    return {(service, outcome): float(count) for service, outcome, count in re.findall(line, text, re.M)}
