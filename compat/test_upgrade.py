"""A fleet in the middle of an upgrade: a server of an older version and one of this over one PostgreSQL.

`INBORN_OLD_BIN` names the older program; `cargo xtask` builds one of the repository's history and says it here, or says
in `INBORN_OLD_BIN_MISSING` why it cannot. What is promised is in `docs/stores.md`, *Upgrades*.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.credentials import Credentials

from fleet_calls import WHOAMI, call, look
from fleet_lab import START_SECONDS, Host, Server, fleet, postgres_programs
from fleet_oracle import Credential
from fleet_people import METADATA_SECONDS, World, answered, described_epochs, done
from harness import binary, run, scratch, wait_until
from netlab import CI
from test_fleet import need_all

OLD = os.environ.get("INBORN_OLD_BIN")


@pytest.fixture
def world() -> Iterator[World]:
    """The older server made the database, and the newer one has migrated it beneath it. A host has joined."""
    if not OLD:
        why = os.environ.get("INBORN_OLD_BIN_MISSING")
        if CI and not why:
            pytest.fail("INBORN_OLD_BIN names no older program, and nobody says why")
        reason = f"NOT TESTED: there is no older program: {why or 'INBORN_OLD_BIN names none'}"
        print(f"!! {reason}", file=sys.stderr)
        pytest.skip(reason)
    need_all()
    old = Path(OLD)
    assert old.is_file(), f"{old} does not exist"
    assert old.read_bytes() != binary().read_bytes(), "INBORN_OLD_BIN is the program under test"
    with scratch() as place:
        (place / "home").mkdir(mode=0o755)
        with fleet(place, postgres_programs(), 2, 1, versions=[old]) as made:
            world = World(made, 0)
            world.join_hosts()
            yield world
            # Shown with a test that fails.
            print(made.logs())


def machines(world: World, server: Server) -> dict[str, str]:
    """Of all machines, as one of the two tells it, the state."""
    answer = done(world, server, "DescribeInstances")
    return dict(zip(answer.all("instanceId"), answer.all("name"), strict=True))


def who(world: World, server: Server, credential: Credential) -> int:
    keys = Credentials(credential.key, credential.secret, credential.token)
    ask = lambda: call(server.endpoint, "sts", WHOAMI, keys)  # noqa: E731
    return world.fleet.operators.space.do(lambda: answered(ask)).status


def guest(host: Host, machine: str) -> Credential:
    """A machine on the host, as it sees itself."""
    wait_until(lambda: host.attach(machine), f"{machine} is attached", START_SECONDS)
    return wait_until(lambda: seen(host, machine), f"{machine} has credentials", START_SECONDS)


def seen(host: Host, machine: str) -> Credential | None:
    return host.node.space.do(lambda: look(host.endpoints[machine], METADATA_SECONDS)).credential


def launched(world: World, server: Server, host: Host) -> str:
    parameters = f"ImageId=ami-12345678&MinCount=1&MaxCount=1&Placement.HostId={host.id}"
    return done(world, server, f"RunInstances&{parameters}").all("instanceId")[0]


def check_each_hears_the_other(world: World, old: Server, new: Server, host: Host) -> None:
    """What one of them changes is so at the other, both ways: launches and ends."""
    for one, other in ((old, new), (new, old)):
        machine, lasting = launched(world, one, host), launched(world, one, host)
        # The other knows it with its next round; the change is told, not looked up.
        wait_until(lambda m=machine, s=other: m in machines(world, s), f"{other.name} hears of a launch at {one.name}")
        credential, kept = guest(host, machine), guest(host, lasting)
        assert [who(world, server, credential) for server in (one, other)] == [200, 200]

        done(world, one, f"TerminateInstances&InstanceId.1={machine}")
        ended = lambda s=other, c=credential: who(world, s, c) == 403  # noqa: E731
        wait_until(ended, f"{other.name} hears of an end at {one.name}")
        assert who(world, one, credential) == 403
        assert who(world, other, kept) == 200

        done(world, other, f"TerminateInstances&InstanceId.1={lasting}")
        wait_until(lambda s=one, c=kept: who(world, s, c) == 403, f"{one.name} hears of an end at {other.name}")


def check_a_rotation_is_made_together(world: World, one: Server, other: Server, host: Host) -> None:
    """One of them is told to; it takes the word of both until the next epoch seals, and what was issued stays good."""
    credential = guest(host, launched(world, one, host))
    before = max(described_epochs_of(world, one))
    done(world, one, "Inborn.RotateEpoch")
    for server in (one, other):
        seals = lambda s=server: described_epochs_of(world, s).get(before + 1) == "sealing"  # noqa: E731
        wait_until(seals, f"{server.name} knows when the next epoch seals", START_SECONDS)
    assert [who(world, server, credential) for server in (one, other)] == [200, 200]


def check_each_hears_of_revocations(world: World, old: Server, new: Server, host: Host) -> None:
    """What the epoch that seals has issued ends at both, whoever was told; and both know the same of all epochs."""
    credential = guest(host, launched(world, old, host))
    assert [who(world, server, credential) for server in (old, new)] == [200, 200]
    for one, other in ((new, old), (old, new)):
        epochs = described_epochs_of(world, one)
        sealing = min(epoch for epoch, state in epochs.items() if state == "sealing")
        done(world, one, f"Inborn.RevokeEpoch&EpochId={sealing}")
        for server in (one, other):
            wait_until(lambda s=server: who(world, s, credential) == 403, f"{server.name} hears of a revocation")
        gone = lambda s=other, e=sealing: described_epochs_of(world, s).get(e) != "sealing"  # noqa: E731
        wait_until(gone, f"{other.name} hears that epoch {sealing} was revoked at {one.name}")
        same = lambda: described_epochs_of(world, old) == described_epochs_of(world, new)  # noqa: E731
        wait_until(same, "both know the same epochs")


def described_epochs_of(world: World, server: Server) -> dict[int, str]:
    ask = lambda: world.fleet.operators.space.do(lambda: described_epochs(world, server))  # noqa: E731
    return wait_until(ask, f"{server.name} tells the epochs", START_SECONDS)


def versions(world: World) -> tuple[str, str]:
    """The database's schema, and the oldest one whose programs may use it."""
    sql = "SELECT version, usable_from FROM schema_version"
    return tuple(world.fleet.databases[world.fleet.primary].sql(sql).split("|"))


@pytest.mark.timeout(600)
def test_an_older_server_and_a_newer_one_work_side_by_side(world: World):
    old, new = world.fleet.servers
    host = world.fleet.hosts[0]
    primary = world.fleet.databases[world.fleet.primary]
    known = run([OLD, "--version"], old.env).stdout.strip(), run([binary(), "--version"], new.env).stdout.strip()
    print(f"{known[0]} beside {known[1]}, schema {versions(world)[0]}, usable from {versions(world)[1]}")

    def beating() -> set[str]:
        # By what all versions write: the number of its beats is one of schema 7.
        return set(primary.sql("SELECT name FROM region_nodes WHERE beaten_at > started_at").split())

    wait_until(lambda: beating() == {"a", "b"}, "both are among the nodes")
    check_each_hears_the_other(world, old, new, host)
    check_a_rotation_is_made_together(world, old, new, host)

    # An older server that is started on a database that was migrated: it works, and changes nothing of the schema.
    before = versions(world)
    old.kill()
    assert old.start(), old.log.read_text()
    assert versions(world) == before
    check_each_hears_the_other(world, old, new, host)

    # And the newer one, beside which the older one goes on.
    new.kill()
    machine = launched(world, old, host)
    assert new.start(), new.log.read_text()
    credential = guest(host, machine)
    assert [who(world, server, credential) for server in (old, new)] == [200, 200]
    check_each_hears_of_revocations(world, old, new, host)
