"""What may never be in a fleet, whatever breaks: the invariants of `crates/simulation/src/oracle.rs`, for processes.

- A launch that was acknowledged is never lost.
- Whatever has ended is let in nowhere, and given nothing, later than the bound after its end was acknowledged, and at
  the server that acknowledged it not at all.
- Who is known and has not ended is never refused, only put off.
- A host has no machine of another host, and is given no credential for one.
- What a host has of a machine that lives stays there, with life left, whatever becomes of the region and over its own
  crashes.
- Servers never disagree about a byte of a credential.
- Epochs never go back. What was seen before one was revoked is let in nowhere later than the bound after that was
  acknowledged, and every machine is given another.

Each method is told what somebody saw and when. All times are of one monotonic clock, and are taken so that the doubt is
in favour of the fleet: a question counts from before its last byte was sent, an acknowledgement from after it was read.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

#: A server that has not heard the others for longer lets nobody in. Source: docs/stores.md.
STALE_AFTER = 5.0
#: Nothing is added to that. A server counts its silence from before it asked what is new, by the monotonic clock, which
#: is this one too and which nobody sets; its other clock can only add to it. It looks at that after the last byte of a
#: question has come, and before it judges. So whoever sends that byte later than this is not let in.
BOUND = STALE_AFTER
#: A host writes down what it was given within a second (docs/hosts.md); a loaded computer takes much longer.
KEPT_AFTER = 10.0
#: What every machine's credential has left, also after hours without a region. Source: docs/hosts.md.
LIFE_LEFT = 3600.0
#: "Again, a little later", beside all from 500 on: too slow a request, too many.
LATER = {408, 429}
#: What a credential is, as hosts are given it.
GIVEN = ["access_key_id", "secret_access_key", "session_token"]
#: In the order in which an epoch goes through them.
EPOCH_STATES = ["published", "acknowledged", "sealing", "retired", "revoked"]


@dataclass
class End:
    kind: str
    asked: float
    acknowledged: float
    #: Which run of a server has acknowledged it, if that is known.
    run: str | None


@dataclass
class Machine:
    number: int
    host: int | None
    launched: float
    #: When it was changed last: when that was asked for, then when it was acknowledged.
    changed: float
    changes: int = 0
    #: Whether an operator has it in hand.
    is_taken: bool = False
    #: Whether it is not known what became of the last change.
    is_uncertain: bool = False
    #: Whether a change was asked for and never answered: it may still be on its way, and come after all others.
    is_shaky: bool = False
    is_ended: bool = False
    is_terminated: bool = False
    ends: list[End] = field(default_factory=list)

    @property
    def is_certain(self) -> bool:
        return not self.is_uncertain and not self.is_shaky

    @property
    def state(self) -> str:
        """What EC2 calls how it is, if that is certain."""
        if self.is_terminated:
            return "terminated"
        return "stopped" if self.is_ended and self.ends[-1].kind == "stopped" else "running"

    @property
    def lives(self) -> bool:
        """Whether it is certain that it runs, and nobody is about to change that."""
        return self.is_certain and not self.is_taken and not self.is_ended


@dataclass
class Wide:
    """A quarantine of many, from when somebody asks for it until its end was acknowledged."""

    #: Of which host; nothing: of all.
    host: int | None
    members: list[str]
    #: Whether it was acknowledged, and nobody has asked for its end.
    is_certain: bool = False

    def covers(self, one: Machine) -> bool:
        return self.host is None or one.host == self.host


@dataclass
class Credential:
    """A credential, and what was seen of it."""

    key: str
    secret: str
    token: str
    expires: float
    first_seen: float
    #: When the question was sent that it was let in with last.
    let_in: float = -1.0


@dataclass
class Held:
    changed: float
    #: Since when it is known to be held.
    since: float
    run: int


class Oracle:
    """What is known, and what was seen that may not be."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.machines: dict[str, Machine] = {}
        self.credentials: dict[str, dict[str, Credential]] = {}
        self.violations: list[str] = []
        self.summary: dict[str, int] = {}
        self._held: dict[str, Held] = {}
        #: By machine, boot, moment of issue and version of the metadata service: the bytes.
        self._bytes: dict[tuple, tuple] = {}
        self._epochs: dict[int, int] = {}
        self._epochs_read = 0.0
        self._evicted: dict[int, End] = {}
        self._wide: Wide | None = None
        #: When what everybody has may have ended last, and whether that is not known.
        self._all_changed, self._is_all_uncertain = -1.0, False
        self._revoked: list[End] = []
        self._timeline: list[tuple[float, str]] = []
        self.begun = 0.0

    # What happens, for whoever reads it after a failure.

    def note(self, now: float, line: str) -> None:
        with self.lock:
            self._timeline.append((now, line))

    def timeline(self) -> str:
        with self.lock:
            return "\n".join(f"{at - self.begun:8.3f} {line}" for at, line in sorted(self._timeline))

    def violation(self, now: float, line: str) -> None:
        with self.lock:
            self.violations.append(f"{now - self.begun:8.3f} {line}")
            self._timeline.append((now, f"VIOLATION {line}"))

    def count(self, what: str, by: int = 1) -> None:
        with self.lock:
            self.summary[what] = self.summary.get(what, 0) + by

    # Operators.

    def launched(self, now: float, machine: str, host: int | None) -> Machine:
        with self.lock:
            if machine in self.machines:
                self.violation(now, f"{machine} has the id of another machine")
            self.count("launched")
            new = Machine(len(self.machines), host, now, now)
            self.machines[machine] = new
            wide = self._wide
            if wide is not None and wide.covers(new):
                # Who is launched where all are in quarantine is in it, too.
                wide.members.append(machine)
                self.take([machine])
                self.may_change(now, machine)
                if wide.is_certain:
                    self.ended(now, machine, "quarantined", None)
            return new

    def may_be_wide(self, now: float, host: int | None) -> None:
        """Somebody asks for a quarantine of many, while nobody else has a machine in hand."""
        with self.lock:
            wide = Wide(host, [])
            for id, one in self.machines.items():
                if wide.covers(one) and one.lives:
                    wide.members.append(id)
            self.take(wide.members)
            for id in wide.members:
                self.may_change(now, id)
            self._wide = wide

    def is_wide(self, now: float, run: str | None) -> None:
        """It was acknowledged."""
        with self.lock:
            self._wide.is_certain = True
            for id in self._wide.members:
                self.ended(now, id, "quarantined", run)
            self.count("quarantined: a host" if self._wide.host is not None else "quarantined: all")

    def may_be_wide_no_more(self, now: float) -> None:
        """Somebody asks for its end."""
        with self.lock:
            self._wide.is_certain = False
            for id in self._wide.members:
                self.may_begin(now, id)

    def is_wide_no_more(self, now: float) -> None:
        """Its end was acknowledged."""
        with self.lock:
            wide, self._wide = self._wide, None
            for id in wide.members:
                self.begun_again(now, id)
            self.give_back(wide.members)

    def may_revoke(self, now: float) -> None:
        """Somebody asks for the end of the epoch that seals, and with it of all that was issued."""
        with self.lock:
            self._all_changed, self._is_all_uncertain = now, True

    def revoked(self, now: float, run: str | None) -> None:
        """That was acknowledged."""
        with self.lock:
            self._revoked.append(End("the epoch is revoked", self._all_changed, now, run))
            self._all_changed, self._is_all_uncertain = now, False
            self.count("revoked")

    def take(self, machines: list[str]) -> None:
        with self.lock:
            for machine in machines:
                self.machines[machine].is_taken = True

    def give_back(self, machines: list[str]) -> None:
        with self.lock:
            for machine in machines:
                self.machines[machine].is_taken = False

    def may_change(self, now: float, machine: str) -> None:
        """Somebody asks for an end, a beginning or a reboot."""
        with self.lock:
            one = self.machines[machine]
            one.is_uncertain, one.changed = True, now
            one.changes += 1

    def may_come_late(self, machine: str) -> None:
        """What was asked for was not answered: a server that was held up may still do it."""
        with self.lock:
            self.machines[machine].is_shaky = True

    def ended(self, now: float, machine: str, kind: str, run: str | None) -> None:
        """An end was acknowledged; after `terminated` there is no beginning."""
        with self.lock:
            one = self.machines[machine]
            one.ends.append(End(kind, one.changed, now, run))
            one.is_uncertain, one.is_ended, one.changed = False, True, now
            if kind == "terminated":
                one.is_terminated, one.is_shaky = True, False
            self.count("ended")

    def may_begin(self, now: float, machine: str) -> None:
        with self.lock:
            self.may_change(now, machine)
            self.machines[machine].is_ended = False

    def begun_again(self, now: float, machine: str) -> None:
        """A beginning or a reboot was acknowledged."""
        with self.lock:
            one = self.machines[machine]
            one.is_uncertain, one.changed = False, now

    def evicted(self, now: float, host: int, asked: float, run: str | None) -> None:
        with self.lock:
            self._evicted[host] = End("evicted", asked, now, run)
            self.count("evicted")

    def is_evicted(self, host: int) -> bool:
        with self.lock:
            return host in self._evicted

    def free(self) -> list[str]:
        """Machines of hosts that can be changed, in the order of their launch: shaky ones can only be terminated."""
        with self.lock:
            is_free = lambda one: not (one.is_taken or one.is_uncertain or one.is_ended)  # noqa: E731
            return [id for id, one in self.machines.items() if one.host is not None and is_free(one)]

    def free_on(self, host: int) -> list[str] | None:
        """Machines of a host that have not ended for good, if an operator can have all of them."""
        with self.lock:
            there = {id: one for id, one in self.machines.items() if one.host == host}
            if any(one.is_taken for one in there.values()):
                return None
            return [id for id, one in there.items() if not one.is_terminated]

    def on(self, host: int) -> list[str]:
        with self.lock:
            return [id for id, one in self.machines.items() if one.host == host]

    def elsewhere(self, host: int) -> list[str]:
        with self.lock:
            return [id for id, one in self.machines.items() if one.host != host]

    def known(self, machine: str) -> list[Credential]:
        """The credentials of a machine that were seen, the newest last."""
        with self.lock:
            return list(self.credentials.get(machine, {}).values())

    # Machines at region servers.

    def answered(
        self, machine: str, credential: Credential, sent: float, now: float, run: str | None, status: int, code: str
    ) -> None:
        """A machine has asked a server who it is. `run` is the server's, nothing if it was another one afterwards."""
        with self.lock:
            one = self.machines[machine]
            if status == 200:
                self.count("let in")
                credential.let_in = max(credential.let_in, sent)
                wrong = self._wrongly_let_in(one, credential, sent, run)
            elif status in LATER or status >= 500:
                self.count("put off")
                wrong = None
            else:
                self.count("refused")
                is_wrong = self._lives_since(one, sent) and self._is_current(one, credential)
                wrong = f"has not ended, and is refused: {status} {code}" if is_wrong else None
            if wrong is not None:
                told = f"machine {one.number} {machine} at run {run}: {wrong} (sent {sent - self.begun:.3f})"
                self.violation(now, told)

    def _wrongly_let_in(self, one: Machine, credential: Credential, sent: float, run: str | None) -> str | None:
        for end in [*one.ends, *self._revoked]:
            is_of_before = credential.first_seen < end.asked
            if is_of_before and self._is_late(end, sent, run):
                return f"{end.kind} since {end.acknowledged - self.begun:.3f}, let in with a credential of before"
        return self._wrongly_ended(one, sent, run, "let in")

    def _wrongly_ended(self, one: Machine, sent: float, run: str | None, what: str) -> str | None:
        """Whether a machine got something although it has ended, and has not been asked to begin again."""
        if not one.ends or not one.is_ended or not (one.is_certain or one.is_terminated):
            return None
        end = one.ends[-1]
        is_late = self._is_late(end, sent, run)
        return f"{end.kind} since {end.acknowledged - self.begun:.3f}, and {what}" if is_late else None

    @staticmethod
    def _is_late(end: End, sent: float, run: str | None) -> bool:
        return sent > end.acknowledged + BOUND or (run is not None and run == end.run and sent > end.acknowledged)

    def _changed(self, one: Machine) -> float:
        """When a machine was changed last, by itself or with all others."""
        return max(one.changed, self._all_changed)

    def _lives_since(self, one: Machine, moment: float) -> bool:
        """Whether it is certain that it lives, and nothing has changed since."""
        return one.lives and not self._is_all_uncertain and self._changed(one) < moment

    def _is_current(self, one: Machine, credential: Credential) -> bool:
        """Whether a credential is known to be good since the last change.

        One that was seen before an end was asked for is not, whoever has let it in: who has not heard yet does that.
        """
        if any(credential.first_seen < end.asked for end in [*one.ends, *self._revoked]):
            return False
        is_never_changed = one.changes == 0 and self._all_changed < one.launched
        return is_never_changed or credential.let_in > self._changed(one)

    # Hosts.

    def seen(self, machine: str, credential: Credential) -> Credential:
        """A guest has found a credential; gives the one that is known by this name."""
        with self.lock:
            return self.credentials.setdefault(machine, {}).setdefault(credential.key, credential)

    def looked(
        self,
        machine: str,
        sent: float,
        now: float,
        host: tuple[int, float],
        found: Credential | None,
        why: str,
        wall: float,
    ) -> None:
        """A guest has looked into its metadata while its host was up all the time.

        `host` is the run of the host and when the one before was killed, `why` what was found instead of a credential,
        `wall` the time of day.
        """
        run, killed = host
        with self.lock:
            one = self.machines[machine]
            held = self._held.get(machine)
            if not self._lives_since(one, sent):
                self._held.pop(machine, None)
                return
            if found is not None:
                self.count("held")
                if not self._is_current(one, found):
                    return
                if found.expires < wall + LIFE_LEFT:
                    self.violation(now, f"machine {one.number}: its credential has {found.expires - wall:.0f} s left")
                changed = self._changed(one)
                since = held.since if held and held.changed == changed else now
                self._held[machine] = Held(changed, since, run)
                return
            if held is None or held.changed != self._changed(one):
                return
            was_kept = held.since < killed - KEPT_AFTER
            if held.run == run or was_kept:
                told = f"machine {one.number} {machine} has no credential any more at host {one.host}: {why}"
                self.violation(now, told)
            self._held.pop(machine)

    def lists(self, now: float, host: int, machines: list[str]) -> None:
        """A host says which machines it has. One whose launch nobody was told of yet is nobody's."""
        with self.lock:
            self.count("lists")
            for machine in machines:
                one = self.machines.get(machine)
                if one is not None and one.host != host:
                    self.violation(now, f"host {host} has machine {one.number}, which is on host {one.host}")

    def is_itself(self, now: float, machine: str, name: str) -> None:
        """What a machine's metadata, or who let it in, calls it."""
        if machine not in name:
            self.violation(now, f"{machine} is taken for {name}")

    def given(self, host: int, sent: float, now: float, run: str | None, generations: list[dict]) -> None:
        """A server has given credentials to who showed a host's certificate."""
        with self.lock:
            self.count("given")
            end = self._evicted.get(host)
            if end is not None and self._is_late(end, sent, run):
                since = end.acknowledged - self.begun
                self.violation(now, f"host {host} is evicted since {since:.3f}, and is answered")
            for generation in generations:
                self._given_one(host, sent, now, run, generation)

    def _given_one(self, host: int, sent: float, now: float, run: str | None, generation: dict) -> None:
        machine = generation["instance"]
        one = self.machines.get(machine)
        if one is not None:
            if one.host != host:
                self.violation(now, f"host {host} is given a credential of machine {one.number} on host {one.host}")
            wrong = self._wrongly_ended(one, sent, run, "given a credential")
            if wrong is not None:
                self.violation(now, f"machine {one.number} {machine} at run {run}: {wrong}")
        for version in ("v1", "v2"):
            key = (machine, generation["boot_generation"], generation["issued_at"], version)
            given = generation[version]
            told = (*(given[name] for name in GIVEN), generation["expires_at"])
            self.count("compared")
            if self._bytes.setdefault(key, told) != told:
                issued = generation["issued_at"]
                self.violation(now, f"servers disagree about a credential of {machine}, issued at {issued}")

    # Epochs.

    def epochs(self, sent: float, now: float, found: dict[int, str]) -> None:
        """A server has told the epochs of the store."""
        with self.lock:
            self.count("epochs")
            if sent < self._epochs_read:
                return
            self._epochs_read = now
            for id, rank in self._epochs.items():
                state = found.get(id)
                if state is None or EPOCH_STATES.index(state) < rank:
                    self.violation(now, f"epoch {id} went back from {EPOCH_STATES[rank]} to {state}")
            self._epochs = {id: EPOCH_STATES.index(state) for id, state in found.items()}

    def verdict(self) -> str:
        """What is told when all is over: nothing wrong, or the timeline and what was wrong."""
        with self.lock:
            if not self.violations:
                return ""
            return self.timeline() + "\n\nviolations:\n" + "\n".join(self.violations)
