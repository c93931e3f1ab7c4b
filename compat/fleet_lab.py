"""A fleet on a network of its own: region servers, a pair of PostgreSQL, hosts, each a namespace, on one switch.

What breaks is broken from outside, as it breaks in a data centre: a cable is pulled, two computers lose each other
without a word, packets are lost, processes are killed or held.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness import NOBODY, READY_SECONDS, binary, clean_env, read_exports, run, wait_until
from lab import Lab, Namespace, enter

REGION = "us-east-1"
SUBNET = "10.77.0"
#: A hardware address that nobody has: what is sent there is lost, and nobody is told.
NOBODYS_MAC = "02:de:ad:00:00:01"
#: TLS where clients look for it that know a name alone.
PORT, TLS_PORT, HOSTS_PORT = 4580, 443, 4544
#: A debug build that starts beside eleven others on two cores.
START_SECONDS = 4 * READY_SECONDS
#: How a slow link is made: by netem each packet takes so long; by tbf, which more kernels have, so much fits through,
#: and what does not waits.
DELAYED = ["netem", "delay", "200ms", "50ms", "limit", "10000"]
NARROWED = ["tbf", "rate", "500kbit", "burst", "2000", "latency", "5s"]
#: What servers do while they do not hear each other, beside what they do by default: the bound of `fleet_oracle.py`
#: holds by it.
STALE = ("sts=refuse-all",)
#: From Debian's package `libfaketime`: a clock of a process's own.
FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


class Node:
    """A computer on the switch."""

    def __init__(self, network: Network, name: str, number: int):
        self.network, self.name, self.number = network, name, number
        self.address = f"{SUBNET}.{number}"
        self.space: Namespace = network.lab.namespace(name)
        network.lab.cable(network.switch, f"p{number}", self.space, "eth0")
        network.switch.ip("link", "set", f"p{number}", "master", "br0")
        network.ports.append(f"p{number}")
        self.space.ip("addr", "add", f"{self.address}/24", "dev", "eth0")

    def command(self, argv: Sequence[str | Path]) -> list[str]:
        """The words that run a command there. Unlike `ip netns exec`, the file systems stay those of the test."""
        return ["nsenter", f"--net={self.space.path}", "--", *map(str, argv)]

    def enter(self) -> None:
        """Moves the calling thread there."""
        enter(self.space.path)


class Network:
    """A switch, and what is broken in it now. Two faults may break the same: it is whole when both are over."""

    def __init__(self, lab: Lab):
        self.lab = lab
        self.switch = lab.namespace("switch")
        # A bridge that waits for no spanning tree: a cable that is plugged in again works at once.
        self.switch.ip("link", "add", "br0", "type", "bridge", "forward_delay", "0")
        self.switch.ip("link", "set", "br0", "up")
        self.lock = threading.Lock()
        self.broken: dict[tuple, int] = {}
        self.ports = ["lo"]
        #: How packets can be lost here: nothing, where the kernel or the programs for it are not there.
        self.loses_with = self._find_loss()
        #: How what a node sends can be made slow here: the same.
        self.slows_with = self._find_slowness()

    def _change(self, what: tuple, by: int, do: Callable[[bool], None]) -> None:
        with self.lock:
            before = self.broken.get(what, 0)
            self.broken[what] = before + by
            if (before == 0) != (before + by == 0):
                do(before == 0)

    @contextlib.contextmanager
    def _while(self, what: tuple, do: Callable[[bool], None]) -> Iterator[None]:
        self._change(what, 1, do)
        try:
            yield
        finally:
            self._change(what, -1, do)

    def unplugged(self, node: Node):
        """While this is open, the node's cable is out of the switch."""
        state = {True: "down", False: "up"}
        return self._while(
            ("cable", node.number),
            lambda is_broken: self.switch.ip("link", "set", f"p{node.number}", state[is_broken]),
        )

    def silenced(self, sender: Node, receiver: Node):
        """While this is open, nothing that one node sends reaches the other; the way back is open."""

        def do(is_broken: bool) -> None:
            if is_broken:
                words = ("replace", receiver.address, "lladdr", NOBODYS_MAC, "dev", "eth0", "nud", "permanent")
                sender.space.ip("neigh", *words)
            else:
                sender.space.ip("neigh", "del", receiver.address, "dev", "eth0")

        return self._while(("pair", sender.number, receiver.number), do)

    @contextlib.contextmanager
    def parted(self, one: Sequence[Node], other: Sequence[Node]) -> Iterator[None]:
        """While this is open, none of the one and none of the others reach each other."""
        with contextlib.ExitStack() as stack:
            for a in one:
                for b in other:
                    stack.enter_context(self.silenced(a, b))
                    stack.enter_context(self.silenced(b, a))
            yield

    def losing(self, percent: int):
        """While this is open, the switch loses so many of all packets."""
        return self._while(("loss",), lambda is_broken: self._lose(percent if is_broken else 0))

    def slowed(self, node: Node):
        """While this is open, what the node sends takes its time."""

        def do(is_broken: bool) -> None:
            words = ["add", "dev", "eth0", "root", *self.slows_with] if is_broken else ["del", "dev", "eth0", "root"]
            self._inside(["tc", "qdisc", *words], node.space)

        return self._while(("slow", node.number), do)

    def _find_slowness(self) -> list[str] | None:
        for words in (DELAYED, NARROWED):
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                self._inside(["tc", "qdisc", "add", "dev", "br0", "root", *words])
                self._inside(["tc", "qdisc", "del", "dev", "br0", "root"])
                return words
        return None

    def _find_loss(self) -> str | None:
        for way in ("nft", "tc"):
            self.loses_with = way
            try:
                self._lose(1)
                self._lose(0)
            except (OSError, subprocess.CalledProcessError):
                continue
            return way
        return None

    def _lose(self, percent: int) -> None:
        """By nftables in the switch, or by netem at its ports."""
        if self.loses_with == "nft":
            rule = f"ether type ip numgen random mod 100 < {percent} drop"
            table = f"table bridge loss {{ chain forward {{ type filter hook forward priority 0; {rule}; }}; }}\n"
            self._inside(["nft", "-f", "-"], text=table if percent else "delete table bridge loss\n")
        else:
            for port in self.ports:
                words = ["add", "netem", "loss", f"{percent}%"] if percent else ["del"]
                self._inside(["tc", "qdisc", words[0], "dev", port, "root", *words[1:]])

    def _inside(self, argv: list[str], space: Namespace | None = None, text: str = "") -> None:
        words = ["nsenter", f"--net={(space or self.switch).path}", "--", *argv]
        subprocess.run(words, input=text, text=True, check=True, capture_output=True)


class Process:
    """A process on a node that is killed, held and started again."""

    def __init__(self, node: Node):
        self.node = node
        self.process: subprocess.Popen | None = None
        #: Which of its starts this is.
        self.run = -1
        #: Another number after everything that was done to the process.
        self.turn = 0
        self.is_up = False
        self.killed_at = 0.0
        #: Who does something to it holds this.
        self.in_hand = threading.Lock()

    def _up(self) -> None:
        self.turn += 1
        self.is_up = True

    def _down(self) -> None:
        self.turn += 1
        self.is_up = False

    def kill(self) -> None:
        """SIGKILL."""
        self._down()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.killed_at = time.monotonic()

    def end(self) -> None:
        if self.process is not None:
            self.kill()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """While this is open the process does nothing, and its sockets stay as they are."""
        self._down()
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)
            self._up()

    def spawn(self, argv: Sequence[str | Path], log: Path, env: dict[str, str]) -> None:
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                self.node.command(argv), env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def wait_for(self, ready: Path, what: str) -> bool:
        """Whether the process said that it is ready before it ended."""
        process = self.process
        wait_until(lambda: ready.exists() or process.poll() is not None, f"{what} is ready", START_SECONDS)
        return process.poll() is None


class Server(Process):
    """One `inborn region`."""

    def __init__(self, node: Node, place: Path, store: str, stale: Sequence[str], program: Path | None = None):
        super().__init__(node)
        self.stale = stale
        self.name, self.data = node.name, place / node.name
        #: Of what version it is: the one under test, unless it is said.
        self.program = program or binary()
        self.log, self.ready = place / f"{node.name}.log", place / f"{node.name}.json"
        self.data.mkdir(mode=0o700)
        self.env = clean_env(place / "home", INBORN_STORE=store)
        self.endpoint = (node.address, PORT)

    def set_clock(self, seconds: int) -> None:
        """From its next start on its clock is ahead by so much, and runs as every clock does."""
        assert FAKETIME is not None
        self.env |= {"LD_PRELOAD": str(FAKETIME), "FAKETIME": f"{seconds:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    def start(self) -> bool:
        """Whether it came up; one that does not find its store may end."""
        self.ready.unlink(missing_ok=True)
        ports = ["--port", PORT, "--tls-port", TLS_PORT, "--operations-port", "4590", "--hosts-port", HOSTS_PORT]
        argv = [self.program, "region", "--node", self.name, "--region", REGION, "--data", self.data]
        argv += ["--bind", self.node.address, *ports, "--telemetry-days", "0"]
        if self.program == binary():
            # Which older programs may not know.
            argv += ["--advertise", self.node.address]
        argv += [word for policy in self.stale for word in ("--stale", policy)]
        argv += ["--ready-file", self.ready]
        self.spawn(argv, self.log, self.env)
        if not self.wait_for(self.ready, f"server {self.name}"):
            return False
        self.run += 1
        self._up()
        return True

    def operator(self) -> dict[str, str]:
        return read_exports((self.data / "operator.env").read_text())


class Host(Process):
    """One `inborn host`, joined to the region."""

    def __init__(self, node: Node, number: int, place: Path):
        super().__init__(node)
        self.number, self.data = number, place / node.name
        self.log, self.ready = place / f"{node.name}.log", place / f"{node.name}.json"
        self.env = clean_env(place / "home")
        #: Where its machines find their metadata.
        self.endpoints: dict[str, str] = {}
        self.id = ""
        self.certificate, self.key = place / f"{node.name}.crt", place / f"{node.name}.key"

    def join(self, token: str, servers: Sequence[Server]) -> None:
        addresses = ",".join(f"{server.node.address}:{HOSTS_PORT}" for server in servers)
        argv = [binary(), "host", "join", "--region-endpoint", addresses, "--data", self.data]
        joined = subprocess.run(
            self.node.command(argv), input=token, env=self.env, capture_output=True, text=True, timeout=60, check=False
        )
        assert joined.returncode == 0, joined.stderr
        self.id = re.search(r"h-[0-9a-f]{17}", joined.stdout).group()
        # For who shows it to a server in the host's stead, also when the host has been told to forget it.
        self.certificate.write_text(json.loads((self.data / "host.json").read_text())["certificate"])
        shutil.copy(self.data / "host.key", self.key)

    def start(self) -> bool:
        self.ready.unlink(missing_ok=True)
        self.spawn([binary(), "host", "--data", self.data, "--ready-file", self.ready], self.log, self.env)
        if not self.wait_for(self.ready, f"host {self.number}"):
            return False
        self.run += 1
        self._up()
        return True

    def cli(self, *argv: str) -> subprocess.CompletedProcess:
        return run(self.node.command([binary(), *argv, "--data", self.data]), self.env)

    def attach(self, machine: str) -> bool:
        """Attaches a machine to a port, if the host knows it."""
        attached = self.cli("attach", machine, "--loopback", "--output", "json")
        if attached.returncode != 0:
            return False
        self.endpoints[machine] = json.loads(attached.stdout)["metadata_endpoint"]
        return True

    def status(self) -> dict | None:
        told = self.cli("host", "status", "--output", "json")
        return json.loads(told.stdout) if told.returncode == 0 else None


def postgres_programs() -> Path | None:
    """Where `initdb` and `postgres` are. Debian keeps them off the path, a directory for each version."""
    found = [Path(one) for one in os.environ.get("PATH", "").split(":")]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    homes = ((path / "initdb").resolve().parent for path in found if (path / "initdb").is_file())
    return next((home for home in homes if (home / "postgres").is_file() and (home / "pg_basebackup").is_file()), None)


class Postgres:
    """One PostgreSQL server, primary or standby."""

    #: Silence between the two is noticed sooner than by default, as in a cluster that somebody looks after.
    SETTINGS = ["fsync=off", "max_connections=100", "wal_sender_timeout=5s", "wal_receiver_timeout=5s"]

    def __init__(self, node: Node, programs: Path, place: Path):
        self.node, self.programs, self.place = node, programs, place
        self.data = place / "data"
        self.process: subprocess.Popen | None = None

    def program(self, name: str, *argv: str | Path) -> list[str]:
        """The words that run one of its programs there; PostgreSQL refuses to be root."""
        unprivileged = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
        return self.node.command([*unprivileged, self.programs / name, *argv])

    def _do(self, name: str, *argv: str | Path) -> None:
        run(self.program(name, *argv), clean_env(self.place), check=True, timeout=120, cwd=self.place)

    def make(self) -> None:
        """An empty cluster that answers everybody on the switch, which is nobody but the fleet."""
        words = ["--username=inborn", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        self._do("initdb", "--pgdata", self.data, *words)
        with (self.data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {SUBNET}.0/24 trust\nhost replication all {SUBNET}.0/24 trust\n")
        self.start()
        self.sql("CREATE DATABASE inborn", "postgres")

    def follow(self, primary: Postgres) -> None:
        """Becomes the standby of another, which from then on waits for it."""
        source = f"host={primary.node.address} user=inborn application_name=standby"
        words = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--dbname", source, "--pgdata", self.data]

        def is_copied() -> bool:
            shutil.rmtree(self.data, ignore_errors=True)
            return run(self.program("pg_basebackup", *words), clean_env(self.place), cwd=self.place).returncode == 0

        wait_until(is_copied, "the primary is copied", START_SECONDS)
        self.start()
        primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        primary.sql("SELECT pg_reload_conf()")
        is_sync = "SELECT COUNT(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        wait_until(lambda: primary.sql(is_sync) == "1", "the standby follows", START_SECONDS)

    def start(self) -> None:
        settings = [*self.SETTINGS, f"listen_addresses={self.node.address}", f"unix_socket_directories={self.place}"]
        argv = self.program("postgres", "-D", self.data, *(word for one in settings for word in ("-c", one)))
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen(
                argv, env=clean_env(self.place), cwd=self.place, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(lambda: self.answers() or self.process.poll() is not None, "PostgreSQL answers", START_SECONDS)
        assert self.process.poll() is None, (self.place / "log").read_text()

    def promote(self) -> None:
        """Makes a standby take writes; returns when it does."""
        self._do("pg_ctl", "promote", "--wait", "--pgdata", self.data)

    def kill(self) -> None:
        """SIGKILL to all of it, as if the power went. The first one is held, so that it begets no more."""
        self.process.send_signal(signal.SIGSTOP)
        for pid in [self.process.pid, *children(self.process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def answers(self) -> bool:
        return self._psql("SELECT 1", "postgres").returncode == 0

    def sql(self, statement: str, database: str = "inborn") -> str:
        done = self._psql(statement, database)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _psql(self, statement: str, database: str) -> subprocess.CompletedProcess:
        words = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--username=inborn", "--host", self.place]
        argv = [self.programs / "psql", *words, "--dbname", database, "--command", statement]
        return run(argv, clean_env(self.place))

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


@contextlib.contextmanager
def postgres_place() -> Iterator[Path]:
    """A directory of PostgreSQL's own, below /tmp whatever TMPDIR is: the path of a socket is short."""
    place = Path(tempfile.mkdtemp(prefix="inborn-pg-", dir="/tmp"))
    try:
        os.chown(place, NOBODY, NOBODY)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def children(parent: int) -> list[int]:
    """The processes that one has begotten."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        # One that has ended meanwhile is nobody's. The parent is the second word after the name, which is in brackets
        # and may have any in it.
        with contextlib.suppress(OSError):
            if int(stat.read_text(errors="replace").rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found


class Fleet:
    """All of it: servers over a primary and its synchronous standby, hosts, and a computer for operators.

    Each part is ended by the stack, also when a later one cannot be made, or another one not ended.
    """

    def __init__(
        self,
        stack: contextlib.ExitStack,
        place: Path,
        programs: Path,
        servers: int,
        hosts: int,
        stale: Sequence[str] = STALE,
        versions: Sequence[Path | None] = (),
    ):
        self.place = place
        laboratory = Lab()
        stack.callback(laboratory.close)
        self.network = Network(laboratory)
        node = lambda name, number: Node(self.network, name, number)  # noqa: E731
        places = [stack.enter_context(postgres_place()) for _ in range(2)]
        self.databases = [Postgres(node(f"pg{n}", 21 + n), programs, places[n]) for n in range(2)]
        #: Which of the two takes writes. Who breaks or mends what is between them holds the other.
        self.primary, self.databases_in_hand = 0, threading.Lock()
        names = ",".join(one.node.address for one in self.databases)
        self.store = f"postgres://inborn@{names}/inborn?sslmode=disable&connect_timeout=2"
        # Of the first ones what they run may be said.
        versions = [*versions, *[None] * (servers - len(versions))]
        nodes = [node("abcdefgh"[n], 11 + n) for n in range(servers)]
        self.servers = [Server(nodes[n], place, self.store, stale, versions[n]) for n in range(servers)]
        self.hosts = [Host(node(f"host{n}", 31 + n), n, place) for n in range(hosts)]
        self.operators = node("operators", 50)
        for one in (*self.databases, *self.servers, *self.hosts):
            stack.callback(one.end)

    def start(self) -> None:
        """Databases and servers. Hosts join by a token of the region."""
        first, second = self.databases
        first.make()
        second.follow(first)
        for server in self.servers:
            if server is not self.servers[0]:
                shutil.copy(self.servers[0].data / "epoch.key", server.data / "epoch.key")
            assert server.start(), server.log.read_text()

    def logs(self) -> str:
        """The ends of what its processes have said."""
        logs = [(one.log.stem, one.log) for one in (*self.servers, *self.hosts)]
        logs += [(one.node.name, one.place / "log") for one in self.databases]
        text = []
        for name, log in logs:
            lines = log.read_text(errors="replace").splitlines() if log.exists() else []
            text += [f"--- {name}", *lines[-30:]]
        return "\n".join(text)


@contextlib.contextmanager
def fleet(
    place: Path,
    programs: Path,
    servers: int,
    hosts: int,
    stale: Sequence[str] = STALE,
    versions: Sequence[Path | None] = (),
) -> Iterator[Fleet]:
    """A fleet that runs, gone at the end. `stale` are its servers' policies while they do not hear each other."""
    with contextlib.ExitStack() as stack:
        made = Fleet(stack, place, programs, servers, hosts, stale, versions)
        made.start()
        yield made
