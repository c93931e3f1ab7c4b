"""Where machines, their sshd and whoever logs in to them are: all on loopback, or each in a network namespace."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from harness import Region, clean_env
from lab import Lab, LabRegion, Namespace
from openssh import Client, Machine, Server, server

Serving = contextlib.AbstractContextManager[Server]


class Loopback:
    """Everything at 127.0.0.1, told apart by ports."""

    def __init__(self, region: Region, place: Path):
        self.region, self.place = region, place

    def machine(self, name: str) -> Machine:
        return Machine(self.region, self.place, name)

    def client(self) -> Client:
        return Client(self.region, self.place)

    def server(self, machine: Machine, keys: Path, user_key: Path | None, *more: str) -> Serving:
        """The sshd of a machine."""
        return server(self.place, keys, user_key, *more)

    def impostor(self, machine: Machine, keys: Path, user_key: Path | None) -> Serving:
        """Another computer's sshd, to which leads what should lead to the machine."""
        return server(self.place, keys, user_key)


class LabMachine(Machine):
    """A machine behind an interface of the host, with its own 169.254.169.254."""

    def __init__(self, region: LabRegion, place: Path, name: str, namespace: Namespace, device: str, address: str):
        self.region, self.inside, self.device, self.address = region, namespace, device, address
        self.id = region.launch("--name", name, "--interface", device)
        self.prefix = namespace.words
        self.env = clean_env(place / "home", AWS_ENDPOINT_URL=f"http://{Namespaces.HOST}:{region.port}")


class Namespaces:
    """A host with the region and whoever logs in; machines behind cables."""

    #: The host's address on every cable.
    HOST = "10.0.0.1"

    def __init__(self, lab: Lab, host: Namespace, region: LabRegion, place: Path):
        self.lab, self.host, self.region, self.place = lab, host, region, place
        self._count = 0

    def _guest(self, name: str, address: int) -> tuple[Namespace, str]:
        """A namespace with this last number of its address, and the host's device that leads there."""
        self._count += 1
        device = f"tap{self._count}"
        guest = self.lab.guest(self.host, device, name, address)
        self.host.ip("addr", "add", f"{self.HOST}/32", "dev", device)
        self._lead(f"10.0.0.{address}", device)
        return guest, device

    def _lead(self, address: str, device: str) -> None:
        self.host.ip("route", "replace", f"{address}/32", "dev", device)
        self.host.ip("neigh", "flush", "all")

    def machine(self, name: str) -> LabMachine:
        number = self._count + 2
        guest, device = self._guest(f"g{number}", number)
        return LabMachine(self.region, self.place, name, guest, device, f"10.0.0.{number}")

    def client(self) -> Client:
        return Client(self.region, self.place, self.host.words)

    def server(self, machine: LabMachine, keys: Path, user_key: Path | None, *more: str) -> Serving:
        return server(self.place, keys, user_key, *more, inside=machine.inside, address=machine.address)

    @contextlib.contextmanager
    def impostor(self, machine: LabMachine, keys: Path, user_key: Path | None) -> Iterator[Server]:
        """A computer of its own with the machine's address, and the way there leads to it."""
        other, device = self._guest("impostor", int(machine.address.rsplit(".", 1)[1]))
        with server(self.place, keys, user_key, inside=other, address=machine.address) as sshd:
            yield sshd
        self._lead(machine.address, machine.device)
        self.host.ip("link", "del", device)


Scene = Loopback | Namespaces
