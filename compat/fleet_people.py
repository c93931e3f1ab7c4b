"""Who uses a fleet while it breaks: operators, the machines on its hosts, and who compares what servers say."""

from __future__ import annotations

import collections
import json
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from botocore.credentials import Credentials

from fleet_calls import WHOAMI, Answer, Looked, Unanswered, call, credentials_for, host_context, keys_of, look
from fleet_lab import HOSTS_PORT, START_SECONDS, Fleet, Host, Server
from fleet_oracle import LATER, Credential, Oracle

EC2 = "Version=2016-11-15"
OPERATORS, GUESTS_PER_HOST, PROBERS = 3, 2, 3
#: What can be undone.
ENDS_AND_BEGINNINGS = {
    "stop": ("StopInstances", "StartInstances", "stopped"),
    "quarantine": ("Inborn.PutQuarantine", "Inborn.EndQuarantine", "quarantined"),
}
#: How often somebody asks who hears nothing.
TRIES_MAX = 12
#: How long somebody waits for a host that can be evicted, and asks for its eviction, at the least.
EVICTION_SECONDS = 30.0
MACHINES_MAX = 16
#: Longer than metadata takes on a computer that has much else to do.
METADATA_SECONDS = 10.0
#: Who sends its last byte late is judged by what is so then.
DAWDLE_SECONDS = (1.0, 8.0)
EVICTED = 4
#: A call that nobody was told the end of may still be done for so long: the database ends a statement after 10 s, what
#: comes back after 20 s is not waited for (docs/stores.md), and a server may have been held for 12 s.
LATE_SECONDS = 45.0


class World:
    """A fleet, who uses it, and what is known of both."""

    def __init__(self, fleet: Fleet, seed: int):
        self.fleet, self.seed = fleet, seed
        self.oracle = Oracle()
        self.oracle.begun = time.monotonic()
        self.operator = keys_of(fleet.servers[0].operator())
        #: Operators go on while this is not set, everybody else while `over` is not.
        self.calm, self.over = threading.Event(), threading.Event()
        self.contexts = {}
        #: Launches on a host that nobody was told of (yet), and those of them that nobody asks for at the moment.
        self.launching: dict[int | None, int] = collections.Counter()
        self.unsettled: list[Launch] = []
        #: Hosts that are about to be evicted, or are: they are left to who does that.
        self.ending: set[int] = set()
        #: One quarantine of many at a time; nobody begins anything while somebody waits for all machines to be free.
        self.wide, self.hands_off = threading.Lock(), threading.Event()
        self.hands = 0
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def now(self) -> float:
        return time.monotonic()

    def note(self, line: str) -> None:
        self.oracle.note(self.now(), line)

    def random(self, name: str) -> random.Random:
        """Dice of somebody's own, so that the plans of all follow from the seed alone."""
        return random.Random(f"{self.seed} {name}")

    def spawn(self, name: str, work: Callable[[], None]) -> threading.Thread:
        """Lets somebody live. What goes wrong with the test itself is told as what is wrong with the fleet."""

        def live() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 — a thread that ends unseen would be a test that sees less
                self.oracle.violation(self.now(), f"{name} cannot go on: {type(error).__name__}: {error}")

        thread = threading.Thread(target=live, name=name, daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()
        return thread

    def join(self) -> None:
        """Waits until everybody has ended."""
        while self._threads:
            with self._lock:
                thread = self._threads.pop()
            thread.join()

    def join_hosts(self) -> None:
        """Lets the computers that are to be hosts join, and serve."""
        for host in self.fleet.hosts:
            told = done(self, self.fleet.servers[0], "Inborn.CreateJoinToken")
            host.join(told.all("joinToken")[0], self.fleet.servers)
            assert host.start(), host.log.read_text()
            self.contexts[host.number] = host_context(host.certificate, host.key)

    def ec2(self, server: Server, body: str, **more) -> Answer:
        return call(server.endpoint, "ec2", body, self.operator, **more)


def answered(ask: Callable[[], Answer]) -> Answer:
    """What is answered in the end: who is put off, by a server that has not heard the others just now, asks again."""
    until = time.monotonic() + START_SECONDS
    while True:
        answer = ask()
        is_put_off = answer.status in LATER or answer.status >= 500
        if not is_put_off or time.monotonic() > until:
            return answer
        time.sleep(0.5)


def done(world: World, server: Server, action: str) -> Answer:
    """What an operator asks of a server, and is done."""
    answer = world.fleet.operators.space.do(lambda: answered(lambda: world.ec2(server, f"Action={action}&{EC2}")))
    assert answer.status == 200, (server.name, action, answer.body)
    return answer


class Told:
    """What an operator was told in the end, by which run of a server, and whether a try before may still be done."""

    def __init__(self, answer: Answer, run: str | None, is_doubtful: bool):
        self.answer, self.run, self.is_doubtful = answer, run, is_doubtful


@dataclass
class Launch:
    """Who asks again by the same token starts no more machines, and is told of those that there are."""

    number: int | None
    count: int
    body: str


def run_of(server: Server) -> str:
    return f"{server.name}{server.run}"


class Operator:
    """Launches, stops, starts, quarantines, releases, reboots and terminates, and asks again when nothing is heard."""

    def __init__(self, world: World, name: str):
        self.world, self.oracle, self.name = world, world.oracle, name
        self.dice = world.random(name)
        self.launches = 0

    def work(self) -> None:
        self.world.fleet.operators.enter()
        while not self.world.calm.is_set():
            time.sleep(self.dice.uniform(0, 1.0))
            self.settle_oldest()
            if self.world.hands_off.is_set():
                continue
            free = self.oracle.free()
            if not free or (self.dice.random() < 0.35 and len(free) < MACHINES_MAX):
                self.launch(self.dice.choice(self.world.fleet.hosts))
                continue
            machine = self.dice.choice(free)
            with self.oracle.lock:
                one = self.oracle.machines[machine]
                if one.is_taken or one.host in self.world.ending or self.world.hands_off.is_set():
                    continue
                self.oracle.take([machine])
                self.world.hands += 1
            self.change(machine)
            with self.oracle.lock:
                self.oracle.give_back([machine])
                self.world.hands -= 1

    def change(self, machine: str) -> None:
        kind = self.dice.choices(["terminate", "stop", "reboot", "nothing", "quarantine"], [3, 4, 3, 2, 3])[0]
        if self.oracle.machines[machine].is_shaky:
            kind = "terminate"
        if kind == "terminate":
            self.end(machine, "TerminateInstances", "terminated")
        elif kind == "reboot":
            self.begin(machine, "RebootInstances", is_reboot=True)
        elif kind == "nothing":
            time.sleep(self.dice.uniform(0, 3))
        else:
            end, begin, state = ENDS_AND_BEGINNINGS[kind]
            self.end(machine, end, state)
            time.sleep(self.dice.uniform(0, 8))
            one = self.oracle.machines[machine]
            if one.is_certain and not self.world.calm.is_set():
                self.begin(machine, begin)

    def launch(self, host: Host | None) -> bool:
        """Launches one or two machines on a host, or on none; gives whether that was acknowledged."""
        world = self.world
        self.launches += 1
        count = self.dice.choice([1, 1, 2])
        number, placed = (None, "") if host is None else (host.number, f"&Placement.HostId={host.id}")
        with self.oracle.lock:
            if number in world.ending:
                return False
            world.launching[number] += 1
        token = f"{self.name}-{self.launches}-{self.dice.getrandbits(64):016x}"
        body = f"Action=RunInstances&{EC2}&ImageId=ami-12345678&MinCount={count}&MaxCount={count}&ClientToken={token}"
        return self.settle(Launch(number, count, f"{body}{placed}"))

    def settle(self, launch: Launch) -> bool:
        """Whether a launch was acknowledged. One that was not may be there: its host is not evicted by the book."""
        world = self.world
        told = self.ask(launch.body)
        if told is None:
            with self.oracle.lock:
                world.unsettled.append(launch)
            return False
        ids = told.answer.all("instanceId")
        if len(ids) != launch.count:
            self.oracle.violation(world.now(), f"{launch.count} were launched, {len(ids)} told")
        with self.oracle.lock:
            for id in ids:
                new = self.oracle.launched(world.now(), id, launch.number)
                world.note(f"machine {new.number} {id} is launched on host {launch.number} by {told.run}")
            world.launching[launch.number] -= 1
        return True

    def settle_oldest(self, *hosts: int) -> None:
        """Asks again for the oldest launch that was not acknowledged, on any host or on one of these."""
        with self.oracle.lock:
            found = [one for one in self.world.unsettled if not hosts or one.number in hosts][:1]
            for one in found:
                self.world.unsettled.remove(one)
        for one in found:
            self.settle(one)

    def end(self, machine: str, action: str, kind: str) -> None:
        self.oracle.may_change(self.world.now(), machine)
        told = self.told(machine, action)
        if told is not None:
            self.oracle.ended(self.world.now(), machine, kind, told.run)
            self.world.note(f"machine {self.oracle.machines[machine].number} is {kind}, says {told.run}")

    def begin(self, machine: str, action: str, *, is_reboot: bool = False) -> None:
        note = self.oracle.may_change if is_reboot else self.oracle.may_begin
        note(self.world.now(), machine)
        told = self.told(machine, action)
        if told is not None:
            self.oracle.begun_again(self.world.now(), machine)
            self.world.note(f"machine {self.oracle.machines[machine].number}: {action}, says {told.run}")

    def told(self, machine: str, action: str) -> Told | None:
        subject = "Subject" if action.startswith("Inborn.") else "InstanceId"
        told = self.ask(f"Action={action}&{EC2}&{subject}.1={machine}")
        if told is None or told.is_doubtful:
            self.oracle.may_come_late(machine)
        return told

    def ask(self, body: str, seconds: float = 0.0, *, is_for_good: bool = False) -> Told | None:
        """Asks one server after the other until one has done it; gives up after some tries, not within `seconds`.

        `is_for_good`: after it has been done it is refused, and for no other reason.
        """
        is_doubtful, until, tries = False, self.world.now() + seconds, 0
        while tries < TRIES_MAX or self.world.now() < until:
            tries += 1
            server = self.dice.choice(self.world.fleet.servers)
            run = run_of(server)
            try:
                answer = self.world.ec2(server, body)
            except Unanswered as error:
                is_doubtful |= error.was_sent
                time.sleep(0.3)
                continue
            if answer.status == 200:
                return Told(answer, run if run == run_of(server) else None, is_doubtful)
            # What was done by a try before, or cannot be done. Of a machine that was launched elsewhere a server may
            # not have heard yet.
            if answer.status == 400 and is_for_good and is_doubtful:
                return Told(answer, None, is_doubtful)
            if answer.status == 400 and "NotFound" not in answer.code:
                self.world.note(f"{self.name} is refused: {answer.code} for {body[:60]}")
                self.oracle.count("operators refused")
                return None
            time.sleep(0.5)
        self.world.note(f"{self.name} gives up: {body[:60]}")
        return None

    def rotate(self) -> None:
        """Replaces the keys that credentials are made with."""
        self.world.fleet.operators.enter()
        told = self.ask(f"Action=Inborn.RotateEpoch&{EC2}")
        self.world.note(f"epochs are rotated: {told.answer.all('epochId') if told else 'nobody answered'}")

    def revoke(self) -> None:
        """Ends the epoch that seals, and with it all that was issued."""
        self.world.fleet.operators.enter()
        epoch, until = None, self.world.now() + EVICTION_SECONDS
        while epoch is None and self.world.now() < until:
            found = described_epochs(self.world, self.dice.choice(self.world.fleet.servers)) or {}
            # One that follows may be said to seal from a later moment on.
            epoch = min((id for id, state in found.items() if state == "sealing"), default=None)
        if epoch is None:
            return self.world.note("no server tells which epoch seals: none is revoked")
        self.oracle.may_revoke(self.world.now())
        body = f"Action=Inborn.RevokeEpoch&{EC2}&EpochId={epoch}"
        told = self.ask(body, EVICTION_SECONDS + LATE_SECONDS, is_for_good=True)
        if told is None:
            return self.world.note(f"whether epoch {epoch} is revoked nobody knows")
        self.oracle.revoked(self.world.now(), told.run)
        return self.world.note(f"epoch {epoch} is revoked by {told.run}")

    def quarantine_many(self, host: Host | None) -> None:
        """Puts all of a host, or all, into quarantine, and releases them. What nobody was told of stays as it is."""
        world = self.world
        world.fleet.operators.enter()
        with world.wide:
            if not self.hands_are_free():
                return world.note("nobody is put into quarantine: machines are in hand")
            try:
                self.oracle.may_be_wide(world.now(), None if host is None else host.number)
            finally:
                world.hands_off.clear()
            subject = "%2A" if host is None else host.id
            whose = "all" if host is None else f"host {host.number}"
            told = self.ask(f"Action=Inborn.PutQuarantine&{EC2}&Subject.1={subject}", EVICTION_SECONDS)
            if told is None:
                return world.note(f"whether {whose} is in quarantine nobody knows")
            self.oracle.is_wide(world.now(), told.run)
            world.note(f"{whose} is in quarantine, says {told.run}")
            time.sleep(LATE_SECONDS if told.is_doubtful else self.dice.uniform(1, 9))
            self.oracle.may_be_wide_no_more(world.now())
            body = f"Action=Inborn.EndQuarantine&{EC2}&Subject.1={subject}"
            if self.ask(body, EVICTION_SECONDS + LATE_SECONDS, is_for_good=True) is None:
                return world.note(f"whether {whose} is released nobody knows")
            self.oracle.is_wide_no_more(world.now())
            return world.note(f"{whose} is released")

    def hands_are_free(self) -> bool:
        """Lets nobody begin anything with a machine, and waits until nobody has one in hand."""
        world, until = self.world, self.world.now() + EVICTION_SECONDS + LATE_SECONDS
        world.hands_off.set()
        while world.now() < until:
            with self.oracle.lock:
                if world.hands == 0:
                    return True
            time.sleep(0.1)
        world.hands_off.clear()
        return False

    def evict(self) -> None:
        """Cuts a host off, and with it all that it has."""
        self.world.fleet.operators.enter()
        # Not while all its machines are in other hands.
        with self.world.wide:
            self.evict_some()

    def evict_some(self) -> None:
        world = self.world
        chosen = self.wait_for_whole(self.dice.choice(world.fleet.hosts))
        if chosen is None:
            return world.note("no host is evicted: the machines of all are in other hands")
        host, free = chosen
        asked = world.now()
        for machine in free:
            self.oracle.may_change(asked, machine)
        told = self.ask(f"Action=Inborn.EvictHost&{EC2}&HostId={host.id}", EVICTION_SECONDS)
        if told is None:
            # It may come late: its machines stay in these hands.
            return world.note(f"whether host {host.number} is evicted nobody knows")
        now = world.now()
        with self.oracle.lock:
            self.oracle.evicted(now, host.number, asked, told.run)
            for machine in free:
                self.oracle.ended(now, machine, "terminated", told.run)
        self.oracle.give_back(free)
        return world.note(f"host {host.number} is evicted by {told.run}, with {len(free)} machines")

    def wait_for_whole(self, reserved: Host) -> tuple[Host, list[str]] | None:
        """What `take_whole` gives, of some host, before long. One is reserved, so that nobody begins anything there."""
        world, until = self.world, self.world.now() + EVICTION_SECONDS
        with self.oracle.lock:
            world.ending.add(reserved.number)
        taken = None
        while taken is None and world.now() < until and not world.calm.is_set():
            self.settle_oldest(reserved.number)
            taken = self.take_whole(reserved) or self.take_whole(self.dice.choice(world.fleet.hosts))
            time.sleep(0.1)
        with self.oracle.lock:
            if taken is None or taken[0] is not reserved:
                world.ending.discard(reserved.number)
        return taken

    def take_whole(self, host: Host) -> tuple[Host, list[str]] | None:
        """A host and all its machines, if nobody has one of them in hand and no launch is open; it is given no more."""
        with self.oracle.lock:
            free = self.oracle.free_on(host.number) if self.world.launching[host.number] == 0 else None
            if free is None:
                return None
            self.world.ending.add(host.number)
            self.oracle.take(free)
            return host, free


class Guest:
    """The machines of one host: they look for their credentials, and ask servers who they are."""

    def __init__(self, world: World, host: Host, name: str):
        self.world, self.oracle, self.host = world, world.oracle, host
        self.dice = world.random(name)

    def work(self) -> None:
        self.host.node.enter()
        while not self.world.over.is_set():
            time.sleep(self.dice.uniform(0.05, 0.5))
            machines = self.oracle.on(self.host.number)[-10:]
            if not machines:
                continue
            machine = self.dice.choice(machines)
            if machine in self.host.endpoints:
                self.look(machine)
            known = self.oracle.known(machine)[-4:]
            if known:
                self.who_am_i(machine, self.dice.choice(known))

    def look(self, machine: str) -> None:
        host, now = self.host, self.world.now
        turn, is_up, run, killed, sent = host.turn, host.is_up, host.run, host.killed_at, now()
        if not is_up:
            return
        looked = look(host.endpoints[machine], METADATA_SECONDS)
        if host.turn == turn:
            self.saw(machine, looked, sent, run, killed)

    def saw(self, machine: str, looked: Looked, sent: float, run: int, killed: float) -> None:
        with self.oracle.lock:
            one = self.oracle.machines[machine]
            # The port of a machine that has ended may be another's.
            if one.lives and one.changed < sent:
                if looked.name:
                    self.oracle.is_itself(self.world.now(), machine, looked.name)
                found = self.oracle.seen(machine, looked.credential) if looked.credential else None
            else:
                found = None
            self.oracle.looked(machine, sent, self.world.now(), (run, killed), found, looked.why, time.time())

    def who_am_i(self, machine: str, credential: Credential) -> None:
        server = self.dice.choice(self.world.fleet.servers)
        dawdle = self.dice.uniform(*DAWDLE_SECONDS) if self.dice.random() < 0.05 else 0.0
        ask_who(self.world, server, machine, credential, dawdle)


def ask_who(world: World, server: Server, machine: str, credential: Credential, dawdle: float = 0.0) -> int | None:
    """A machine asks a server who it is; gives the status, if there was an answer."""
    run = run_of(server)
    keys = Credentials(credential.key, credential.secret, credential.token)
    try:
        answer = call(server.endpoint, "sts", WHOAMI, keys, patience=20.0, dawdle=dawdle)
    except Unanswered:
        world.oracle.count("unanswered")
        return None
    now = world.now()
    if answer.status == 200:
        world.oracle.is_itself(now, machine, answer.all("Arn")[0])
    asked = run if run == run_of(server) else None
    world.oracle.answered(machine, credential, answer.sent, now, asked, answer.status, answer.code)
    return answer.status


class Prober:
    """Shows servers the certificates of hosts, also of evicted ones, and compares what they give; reads the epochs."""

    def __init__(self, world: World, name: str, *, reads_epochs: bool):
        self.world, self.oracle, self.reads_epochs = world, world.oracle, reads_epochs
        self.dice = world.random(name)

    def work(self) -> None:
        self.world.fleet.operators.enter()
        while not self.world.over.is_set():
            time.sleep(self.dice.uniform(0.1, 0.6))
            host = self.dice.choice(self.world.fleet.hosts)
            own = self.oracle.on(host.number)[-6:]
            others = self.oracle.elsewhere(host.number)[-6:]
            if own:
                self.ask_all(host, self.dice.choice(own))
            if others and self.dice.random() < 0.4:
                self.ask_all(host, self.dice.choice(others))
            if self.reads_epochs:
                self.read_epochs()

    def ask_all(self, host: Host, machine: str) -> None:
        """Every server for the same machine, one after the other."""
        dawdle = self.dice.uniform(*DAWDLE_SECONDS) if self.dice.random() < 0.1 else 0.0
        for server in self.dice.sample(self.world.fleet.servers, len(self.world.fleet.servers)):
            run = run_of(server)
            try:
                address = (server.node.address, HOSTS_PORT)
                answer = credentials_for(address, self.world.contexts[host.number], [machine], dawdle=dawdle)
            except Unanswered:
                continue
            asked = run if run == run_of(server) else None
            if answer.status == 200:
                generations = json.loads(answer.body)["generations"]
                self.oracle.given(host.number, answer.sent, self.world.now(), asked, generations)
            else:
                self.oracle.count(f"hosts refused: {json.loads(answer.body)['code']}")

    def read_epochs(self) -> None:
        sent = self.world.now()
        found = described_epochs(self.world, self.dice.choice(self.world.fleet.servers))
        if found is not None:
            self.oracle.epochs(sent, self.world.now(), found)


def described_epochs(world: World, server: Server) -> dict[int, str] | None:
    try:
        answer = world.ec2(server, f"Action=Inborn.DescribeEpochs&{EC2}", patience=5)
    except Unanswered:
        return None
    if answer.status != 200:
        return None
    found = re.findall(r"<epochId>(\d+)</epochId>\s*<state>(\w+)</state>", answer.body)
    return {int(id): state for id, state in found}


def look_after(world: World, host: Host) -> None:
    """Attaches the machines of a host, asks it which it has, and sees that it does not end by itself."""
    dice = world.random(f"keeper {host.number}")
    while not world.over.is_set():
        time.sleep(dice.uniform(0.2, 0.6))
        if not host.in_hand.acquire(timeout=0.1):
            continue
        try:
            if host.process.poll() is not None:
                if host.number not in world.ending or host.process.returncode != EVICTED:
                    told = f"host {host.number} ended by itself: {host.process.returncode}"
                    world.oracle.violation(world.now(), told)
                host.turn, host.is_up = host.turn + 1, False
                return
            turn = host.turn
            living = [id for id in world.oracle.on(host.number) if world.oracle.machines[id].lives]
            for machine in [id for id in living if id not in host.endpoints][:1]:
                if host.attach(machine):
                    world.note(f"machine {world.oracle.machines[machine].number} is attached")
            status = host.status() if dice.random() < 0.2 else None
            if status is not None and turn == host.turn:
                world.oracle.lists(world.now(), host.number, [one["instance_id"] for one in status["machines"]])
        finally:
            host.in_hand.release()


def watch(world: World) -> None:
    """Sees that no server ends by itself."""
    while not world.over.is_set():
        time.sleep(0.3)
        for server in world.fleet.servers:
            if not server.in_hand.acquire(blocking=False):
                continue
            try:
                if server.is_up and server.process.poll() is not None:
                    line = f"server {server.name} ended by itself: {server.process.returncode}"
                    world.oracle.violation(world.now(), line)
                    server.is_up = False
            finally:
                server.in_hand.release()
