"""Fixtures: a shared region for tests that leave no trace, and fresh ones for those that stop, kill or fill it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from double import Agent, Lab, Machine, await_channel, pass_role
from harness import Region, scratch
from lab import laboratory, needs_lab
from scenes import Loopback, Namespaces, Scene

#: Signals that tests send. What whoever started us ignores (`nohup` SIGHUP, a shell in the background SIGINT and
#: SIGQUIT) the programs under test would rightly ignore as well.
for sent in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(sent, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Others reach what is put where they shall, whoever started us.
os.umask(0o022)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of this test, with a `home` in it."""
    with scratch() as path:
        (path / "home").mkdir(mode=0o755)
        yield path


@pytest.fixture(scope="module")
def region() -> Iterator[Region]:
    """A running region that the tests of one file share."""
    with scratch() as path:
        (path / "home").mkdir()
        shared = Region(path / "data", path / "home").start()
        yield shared
        shared.stop()


@pytest.fixture
def make_region(place: Path) -> Iterator[Callable[..., Region]]:
    """Makes regions that this test may treat badly: `make_region("name", "--flag", …)`, not yet started."""
    made: list[Region] = []

    def make(name: str = "data", *flags: str, data: Path | None = None) -> Region:
        made.append(Region(data or place / name, place / "home", *flags))
        return made[-1]

    yield make
    for one in made:
        one.kill()


@pytest.fixture
def fresh(make_region: Callable[..., Region]) -> Region:
    """A running region of this test's own."""
    return make_region().start()


#: A test of these takes place on loopback, and in namespaces.
PLACES = ["loopback", pytest.param("namespaces", marks=needs_lab)]


@pytest.fixture(params=PLACES)
def scene(request: pytest.FixtureRequest, place: Path) -> Iterator[Scene]:
    """Where machines and whoever logs in to them are; on loopback with a region that other tests use, too."""
    yield from scene_of(request, place, "region")


@pytest.fixture(params=PLACES)
def own_scene(request: pytest.FixtureRequest, place: Path) -> Iterator[Scene]:
    """The same, with a region that the test may stop."""
    yield from scene_of(request, place, "fresh")


def scene_of(request: pytest.FixtureRequest, place: Path, region: str) -> Iterator[Scene]:
    if request.param == "loopback":
        yield Loopback(request.getfixturevalue(region), place)
    else:
        with laboratory(place, "--bind", "0.0.0.0") as (lab, host, region_there):
            yield Namespaces(lab, host, region_there, place)


@pytest.fixture(scope="module")
def managed(region: Region) -> Region:
    """A region that passes the management role to its machines."""
    pass_role(region)
    return region


@pytest.fixture
def lab(place: Path) -> Iterator[Lab]:
    """Machines and agents of this test."""
    lab = Lab(place)
    yield lab
    lab.end()


@pytest.fixture
def machine(managed: Region, lab: Lab) -> Machine:
    """A machine that may have an agent."""
    return lab.machine(managed)


@pytest.fixture
def agent(machine: Machine, lab: Lab) -> Agent:
    """Its agent, which has spoken and has its channel open."""
    agent = lab.start(machine)
    agent.wait("online")
    agent.wait("channel")
    await_channel(machine.region, machine.id)
    return agent


@pytest.fixture
def connected(managed: Region, machine: Machine, agent: Agent) -> tuple[Region, Machine, Agent]:
    """All three."""
    return managed, machine, agent
