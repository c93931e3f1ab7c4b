"""Who uses the fleet that breaks is looked at itself: whoever waits for something comes to an end."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

import fleet_people
from fleet_calls import Answer, Unanswered
from fleet_people import Launch, Operator, World

MACHINE, OTHER = "i-00000000000000001", "i-00000000000000002"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A world of one host, whose servers are not there."""
    monkeypatch.setattr(fleet_people, "EVICTION_SECONDS", 0.3)
    monkeypatch.setattr(fleet_people, "TRIES_MAX", 1)
    server = SimpleNamespace(name="a", run=0)
    server.operator = lambda: {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "secret"}
    host = SimpleNamespace(number=0, id="h-00000000000000001")
    return World(SimpleNamespace(servers=[server], hosts=[host]), 1)


def nobody_answers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def ec2(*_):
        raise Unanswered(TimeoutError(), True)

    monkeypatch.setattr(world, "ec2", ec2)


def test_who_waits_for_a_host_gives_up_and_gives_it_free(world: World):
    world.oracle.launched(0.0, MACHINE, 0)
    world.oracle.take([MACHINE])
    begun = time.monotonic()
    assert Operator(world, "evictor").wait_for_whole(world.fleet.hosts[0]) is None
    assert 0.3 <= time.monotonic() - begun < 10
    assert world.ending == set()
    world.oracle.give_back([MACHINE])
    assert Operator(world, "evictor").wait_for_whole(world.fleet.hosts[0]) == (world.fleet.hosts[0], [MACHINE])
    assert world.ending == {0}


def test_a_launch_that_nobody_was_told_of_is_settled_before_its_host_is_evicted(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    nobody_answers(world, monkeypatch)
    host, operator = world.fleet.hosts[0], Operator(world, "o0")
    assert not operator.launch(host)
    [launch] = world.unsettled
    assert world.launching[0] == 1
    assert operator.wait_for_whole(host) is None, "it may still be there"
    assert world.unsettled == [launch]
    ids = "".join(f"<instanceId>{id}</instanceId>" for id in (MACHINE, OTHER)[: launch.count])
    asked = []
    monkeypatch.setattr(world, "ec2", lambda _, body: asked.append(body) or Answer(0.0, 200, ids))
    assert operator.wait_for_whole(host) == (host, [MACHINE, OTHER][: launch.count])
    assert asked == [launch.body], "by the same token"
    assert world.launching[0] == 0 and world.unsettled == []
    assert not world.oracle.violations


def test_nothing_is_launched_on_a_host_that_is_reserved(world: World, monkeypatch: pytest.MonkeyPatch):
    nobody_answers(world, monkeypatch)
    world.ending.add(0)
    assert not Operator(world, "o0").launch(world.fleet.hosts[0])
    assert world.unsettled == [] and world.launching[0] == 0


def test_a_launch_on_no_host_is_told_apart(world: World):
    world.unsettled.append(Launch(None, 1, "a"))
    Operator(world, "o0").settle_oldest(0)
    assert world.unsettled == [Launch(None, 1, "a")], "another's is left alone"
