"""What goes wrong with a fleet: drawn from a seed, each thing with its end; and how it has to be afterwards."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import time
from collections.abc import Iterator

from fleet_calls import look
from fleet_lab import START_SECONDS, Host, Process, Server
from fleet_oracle import LATER
from fleet_people import (
    EVICTED,
    GUESTS_PER_HOST,
    METADATA_SECONDS,
    OPERATORS,
    PROBERS,
    Guest,
    Operator,
    Prober,
    World,
    ask_who,
    described_epochs,
    done,
    look_after,
    watch,
)
from harness import binary, clean_env, run, wait_until

#: How long people go on when nothing goes wrong any more.
CALM_SECONDS = 10.0
#: When everybody has to be back then: a host's widest pause (docs/hosts.md), and a question.
BACK_SECONDS = 90.0
#: When, of all the time of trouble, things happen that happen once.
ROTATION_AT, FAILOVER_AT, EVICTION_AT, REVOCATION_AT = 0.15, 0.35, 0.6, 0.75
#: A host is put into quarantine, then all are.
WIDE_AT = {"a host": 0.25, "all": 0.85}
#: Percent of all packets.
LOSS = (5, 25)


class Trouble:
    """Makes it, for so many seconds."""

    def __init__(self, world: World, seconds: float):
        self.world, self.fleet, self.seconds = world, world.fleet, seconds
        self.dice = world.random("trouble")
        self.kinds = [
            (self.store_lost, 3), (self.all_stores_lost, 1), (self.standby_lost, 1), (self.server_unplugged, 2),
            (self.server_killed, 3), (self.server_held, 3), (self.host_unplugged, 3), (self.host_killed, 3),
            (self.host_held, 1), (self.host_parted, 2), (self.one_way_lost, 1),
        ]  # fmt: skip
        if self.fleet.network.loses_with:
            self.kinds.append((self.packets_lost, 1))
        if self.fleet.network.slows_with:
            self.kinds.append((self.store_slowed, 2))

    def make(self) -> None:
        """Until the time is over, and all that was broken is whole again."""
        world, ends = self.world, time.monotonic() + self.seconds
        once = Operator(world, "once")
        threads = [
            world.spawn("rotation", lambda: self.at(ROTATION_AT, once.rotate)),
            world.spawn("failover", lambda: self.at(FAILOVER_AT, self.fail_over)),
            world.spawn("eviction", lambda: self.at(EVICTION_AT, Operator(world, "evictor").evict)),
            world.spawn("revocation", lambda: self.at(REVOCATION_AT, Operator(world, "revoker").revoke)),
        ]
        for whose, fraction in WIDE_AT.items():
            work = Operator(world, f"quarantine of {whose}").quarantine_many
            one = self.dice.choice(self.fleet.hosts) if whose == "a host" else None
            threads.append(
                world.spawn(f"quarantine of {whose}", lambda f=fraction, w=work, h=one: self.at(f, lambda: w(h)))
            )
        kinds, weights = zip(*self.kinds, strict=True)
        while time.monotonic() < ends:
            time.sleep(self.dice.uniform(0.3, 3.5))
            kind, lasts = self.dice.choices(kinds, weights)[0], self.dice.uniform(0.1, 12)
            # Drawn here, so that the plan does not depend on which thread is faster.
            server, host = self.dice.choice(self.fleet.servers), self.dice.choice(self.fleet.hosts)
            threads.append(world.spawn(kind.__name__, lambda k=kind, s=server, h=host, t=lasts: k(s, h, t)))
        for thread in threads:
            thread.join()

    def at(self, fraction: float, do) -> None:
        time.sleep(self.seconds * fraction)
        do()

    def broken(self, what: str, while_open: contextlib.AbstractContextManager, lasts: float) -> None:
        """Lets something be so for some seconds."""
        self.world.note(f"{what} for {lasts:.1f} s")
        self.world.oracle.count("broken")
        with while_open:
            time.sleep(lasts)
        self.world.note(f"  no more: {what}")

    def databases(self) -> list:
        return [database.node for database in self.fleet.databases]

    def store_lost(self, server: Server, host: Host, lasts: float) -> None:
        self.broken(
            f"server {server.name} loses the databases",
            self.fleet.network.parted([server.node], self.databases()),
            lasts,
        )

    def all_stores_lost(self, server: Server, host: Host, lasts: float) -> None:
        self.broken(
            "all servers lose the databases",
            self.fleet.network.parted([one.node for one in self.fleet.servers], self.databases()),
            lasts,
        )

    def standby_lost(self, server: Server, host: Host, lasts: float) -> None:
        """No commit is acknowledged meanwhile, beats neither: after five seconds every server puts everybody off."""
        one, other = self.databases()
        # Not while one of them is being made anew from the other.
        if self.fleet.databases_in_hand.acquire(blocking=False):
            try:
                self.broken("the databases lose each other", self.fleet.network.parted([one], [other]), lasts / 2)
            finally:
                self.fleet.databases_in_hand.release()

    def server_unplugged(self, server: Server, host: Host, lasts: float) -> None:
        self.broken(f"server {server.name} is unplugged", self.fleet.network.unplugged(server.node), lasts)

    def host_unplugged(self, server: Server, host: Host, lasts: float) -> None:
        self.broken(f"host {host.number} is unplugged", self.fleet.network.unplugged(host.node), lasts)

    def host_parted(self, server: Server, host: Host, lasts: float) -> None:
        self.broken(
            f"host {host.number} and server {server.name} lose each other",
            self.fleet.network.parted([server.node], [host.node]),
            lasts,
        )

    def one_way_lost(self, server: Server, host: Host, lasts: float) -> None:
        self.broken(
            f"host {host.number} does not hear server {server.name}",
            self.fleet.network.silenced(server.node, host.node),
            lasts,
        )

    def packets_lost(self, server: Server, host: Host, lasts: float) -> None:
        percent = self.world.random(f"loss {lasts}").randint(*LOSS)
        self.broken(f"{percent} % of all packets are lost", self.fleet.network.losing(percent), lasts / 2)

    def store_slowed(self, server: Server, host: Host, lasts: float) -> None:
        """Both databases: what they tell servers, and each other, takes its time."""
        with contextlib.ExitStack() as stack:
            for node in self.databases():
                stack.enter_context(self.fleet.network.slowed(node))
            self.broken("the databases are slow", contextlib.nullcontext(), lasts)

    @contextlib.contextmanager
    def mine(self, one: Process) -> Iterator[bool]:
        """A process that nobody else kills or holds meanwhile; nothing, if somebody does, or it has ended."""
        if not one.in_hand.acquire(timeout=2):
            yield False
            return
        try:
            yield one.is_up and one.process.poll() is None
        finally:
            one.in_hand.release()

    def server_held(self, server: Server, host: Host, lasts: float) -> None:
        self.hold(server, f"server {server.name}", lasts)

    def host_held(self, server: Server, host: Host, lasts: float) -> None:
        self.hold(host, f"host {host.number}", lasts)

    def hold(self, one: Process, name: str, lasts: float) -> None:
        with self.mine(one) as is_mine:
            if is_mine:
                self.broken(f"{name} is held", one.held(), lasts)

    def server_killed(self, server: Server, host: Host, lasts: float) -> None:
        self.kill(server, f"server {server.name}", lasts)

    def host_killed(self, server: Server, host: Host, lasts: float) -> None:
        if host.number not in self.world.ending:
            self.kill(host, f"host {host.number}", lasts / 2)

    def kill(self, one: Process, name: str, lasts: float) -> None:
        with self.mine(one) as is_mine:
            if not is_mine:
                return
            one.kill()
            self.world.oracle.count("killed")
            self.world.note(f"{name} is killed, and is gone for {lasts:.1f} s")
            time.sleep(lasts)
            tries = 1
            while not one.start():
                if isinstance(one, Host):
                    if one.process.returncode == EVICTED and one.number in self.world.ending:
                        return
                    self.world.oracle.violation(self.world.now(), f"{name} does not start: {one.process.returncode}")
                    return
                tries += 1
                time.sleep(1)
            self.world.note(f"{name} runs again, at try {tries}")

    def fail_over(self) -> None:
        """The primary is lost, killed or cut off, and the standby takes over; later it returns as a standby."""
        fleet, note = self.fleet, self.world.note
        with fleet.databases_in_hand:
            old, new = fleet.databases[fleet.primary], fleet.databases[1 - fleet.primary]
            dice = self.world.random("failover")
            is_silent, waits = dice.random() < 0.5, dice.uniform(0.2, 3)
            if is_silent:
                # Cut off before another one is promoted, and killed before it is let in again.
                with fleet.network.unplugged(old.node):
                    note(f"the primary {old.node.name} is unplugged")
                    time.sleep(waits)
                    new.promote()
                    note(f"{new.node.name} is promoted")
                    time.sleep(2)
                    old.kill()
            else:
                old.kill()
                note(f"the primary {old.node.name} is killed")
                time.sleep(waits)
                new.promote()
                note(f"{new.node.name} is promoted")
            fleet.primary = 1 - fleet.primary
            self.world.oracle.count("promoted")
            time.sleep(5)
            old.follow(new)
            note(f"{old.node.name} is the standby of {new.node.name}")


def people(world: World) -> None:
    """Everybody who uses the fleet, until it is calm or over."""
    for number in range(OPERATORS):
        world.spawn(f"operator {number}", Operator(world, f"o{number}").work)
    world.spawn("watch", lambda: watch(world))
    for host in world.fleet.hosts:
        world.spawn(f"keeper {host.number}", lambda host=host: look_after(world, host))
        for number in range(GUESTS_PER_HOST):
            name = f"guest {host.number}.{number}"
            world.spawn(name, Guest(world, host, name).work)
    for number in range(PROBERS):
        world.spawn(f"prober {number}", Prober(world, f"prober {number}", reads_epochs=number == 0).work)


def readiness(server: Server) -> tuple[int, str]:
    """What a server says of itself to who looks after it."""
    return operations(server, "/readyz")


def operations(server: Server, path: str) -> tuple[int, str]:
    """What is said at a server's operations port; 0 if nothing is."""

    def ask() -> tuple[int, str]:
        address = json.loads(server.ready.read_text())["operations"]
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)
        finally:
            connection.close()

    return server.node.space.do(ask)


def all_ready(world: World) -> None:
    for server in world.fleet.servers:
        try:
            what = f"server {server.name} is ready again"
            wait_until(lambda server=server: readiness(server)[0] == 200, what, BACK_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}: {readiness(server)[1]}") from None


def described(world: World, server: Server) -> dict[str, str]:
    """Every machine that a server knows, and its state."""
    found, token = {}, ""
    while True:
        more = f"&NextToken={token}" if token else ""
        answer = done(world, server, f"DescribeInstances&MaxResults=1000{more}")
        for id, state in re.findall(
            r"<instanceId>(i-[0-9a-f]{17})</instanceId>.*?<instanceState>.*?<name>([a-z-]+)</name>", answer.body, re.S
        ):
            found[id] = state
        tokens = answer.all("nextToken")
        if not tokens or not tokens[0]:
            return found
        token = tokens[0]


def check_afterwards(world: World) -> None:
    """All is well again: everybody is back, nothing is lost, and all say the same, by what is in the store alone."""
    oracle, fleet = world.oracle, world.fleet
    all_ready(world)
    for server in fleet.servers:
        server.kill()
    for server in fleet.servers:
        assert server.start(), server.log.read_text()
    all_ready(world)
    wrong = lambda line: oracle.violation(world.now(), f"in the end {line}")  # noqa: E731
    epochs = [described_epochs_there(world, server) for server in fleet.servers]
    if any(one != epochs[0] for one in epochs):
        wrong(f"servers disagree about the epochs: {epochs}")
    oracle.epochs(world.now(), world.now(), epochs[0])
    for server in fleet.servers:
        states = described(world, server)
        for id, one in oracle.machines.items():
            state = states.get(id)
            if state is None or (one.is_certain and state != one.state):
                wrong(f"machine {one.number} {id} is {state} at {server.name}, and should be {one.state}")
    for id, one in oracle.machines.items():
        if one.is_certain and one.host is not None:
            check_machine(world, id, wrong)
    for host in fleet.hosts:
        if oracle.is_evicted(host.number) and host.process.wait(BACK_SECONDS) != EVICTED:
            wrong(f"host {host.number} was evicted, and ended with {host.process.returncode}")
    key = fleet.servers[0].data / "epoch.key"
    command = [binary(), "store", "check", "--store", fleet.store, "--key-file", key, "--data", fleet.servers[0].data]
    checked = run(fleet.operators.command(command), clean_env(fleet.place / "home"), timeout=60)
    if checked.returncode != 0:
        wrong(f"the store is not whole: {checked.stdout} {checked.stderr}")


def described_epochs_there(world: World, server: Server) -> dict[int, str]:
    ask = lambda: fleet_do(world, lambda: described_epochs(world, server))  # noqa: E731
    return wait_until(ask, f"{server.name} tells the epochs", START_SECONDS)


def fleet_do(world: World, work):
    """What `work()` returns on the operators' computer."""
    return world.fleet.operators.space.do(work)


def check_machine(world: World, id: str, wrong) -> None:
    """A machine that lives has a credential that every server takes; of one that has ended nothing is good any more."""
    oracle = world.oracle
    one, host = oracle.machines[id], world.fleet.hosts[oracle.machines[id].host]
    endpoint = host.endpoints.get(id)

    def held():
        looked = host.node.space.do(lambda: look(endpoint, METADATA_SECONDS))
        return looked.credential and oracle.seen(id, looked.credential)

    def last_word(server: Server, credential) -> int | None:
        """What a server says in the end. Who is put off, or hears nothing, asks again."""
        until = world.now() + BACK_SECONDS
        while True:
            status = fleet_do(world, lambda: ask_who(world, server, id, credential))
            is_put_off = status is None or status in LATER or status >= 500
            if not is_put_off or world.now() > until:
                return status
            time.sleep(0.5)

    def known(credential) -> list[int | None]:
        return [last_word(server, credential) for server in world.fleet.servers]

    if one.is_ended or one.is_terminated:
        if endpoint and not one.is_terminated and held():
            wrong(f"machine {one.number} has ended, and is given a credential by its host")
        for credential in oracle.known(id)[-2:]:
            if (told := known(credential)) != [403] * len(told):
                wrong(f"machine {one.number} has ended, and servers answer {told}")
        return
    if oracle.is_evicted(one.host):
        wrong(f"machine {one.number} lives on host {one.host}, which is evicted")
        return
    try:
        if endpoint is None:
            wait_until(lambda: host.attach(id), f"host {host.number} knows {id}", BACK_SECONDS)
            endpoint = host.endpoints[id]
        credential = wait_until(held, f"{id} has a credential at host {host.number}", BACK_SECONDS)
    except AssertionError as error:
        wrong(f"machine {one.number}: {error}")
        return
    if (told := known(credential)) != [200] * len(told):
        wrong(f"machine {one.number} lives, and servers answer {told}")
