"""A network of one's own for a test: namespaces and virtual cables, sealed from the real one.

`inborn up` itself runs in a namespace, the *host*; guests hang on it by cables, containers on guests. Nothing of the
machine's own network is touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import ROOT, Region, Result, binary, run
from metadata import Metadata

IPV4 = "http://169.254.169.254"
IPV6 = "http://[fd00:ec2::254]"
#: Longer than an answer takes, also on a busy machine; an answer that was dropped never comes.
PATIENCE = 2.0
CLONE_NEWNET = 0x4000_0000
_numbers = itertools.count()
_libc = ctypes.CDLL(None, use_errno=True)

needs_lab = pytest.mark.skipif(
    not ROOT or shutil.which("ip") is None, reason="network namespaces of one's own need root and `ip`"
)


def ip(*words: str, check: bool = True) -> Result:
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True)


def enter(path: str) -> None:
    """Moves the calling thread into a network namespace."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {path}")
    finally:
        os.close(descriptor)


class Namespace:
    """A network namespace with a loopback interface."""

    def __init__(self, name: str):
        self.name = name
        self.path = f"/run/netns/{name}"

    def make(self) -> Namespace:
        ip("netns", "add", self.name)
        self.ip("link", "set", "lo", "up")
        return self

    def remove(self) -> None:
        ip("netns", "del", self.name, check=False)

    @property
    def words(self) -> list[str]:
        """What runs a command inside."""
        return ["ip", "netns", "exec", self.name]

    def ip(self, *words: str, check: bool = True) -> Result:
        return ip("-n", self.name, *words, check=check)

    def set(self, setting: str, value: object) -> None:
        """A file below `/proc/sys/net`."""
        self.do(lambda: Path("/proc/sys/net", setting).write_text(str(value)))

    def read(self, setting: str) -> str:
        return self.do(lambda: Path("/proc/sys/net", setting).read_text().strip())

    def do(self, work: Callable):
        """What `work()` returns when it is done inside, by a thread that ends with it."""
        outcome: list = []

        def inside() -> None:
            try:
                enter(self.path)
                outcome.append((True, work()))
            except BaseException as error:  # noqa: BLE001 — handed to the caller
                outcome.append((False, error))

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        done, value = outcome[0]
        if not done:
            raise value
        return value

    def mac(self, device: str) -> str:
        return json.loads(self.ip("-j", "link", "show", device).stdout)[0]["address"]

    def metadata(self, endpoint: str = IPV4, *, version: int = 2, patience: float = 5) -> Metadata:
        """A client that asks from inside."""
        namespace = self

        class Inside(Metadata):
            def request(self, method, path, headers=None, timeout=patience):
                return namespace.do(lambda: super(Inside, self).request(method, path, headers, timeout))

        return Inside(endpoint, version=version)

    def who(self, endpoint: str = IPV4, tries: int = 3) -> str | None:
        """The instance that answers here, or nothing if nobody does."""
        for _ in range(tries):
            with contextlib.suppress(OSError):
                return self.metadata(endpoint, patience=PATIENCE).get("meta-data/instance-id")
        return None

    def hears_nobody(self, endpoint: str = IPV4) -> bool:
        """Whether nobody answers here, for as long as an answer takes."""
        return self.who(endpoint, tries=1) is None


class Lab:
    """Namespaces and cables with names of their own, all gone at the end."""

    def __init__(self) -> None:
        self.prefix = f"inb{os.getpid() % 0x10000:x}x{next(_numbers):x}"
        self.namespaces: list[Namespace] = []

    def namespace(self, name: str) -> Namespace:
        made = Namespace(f"{self.prefix}-{name}").make()
        self.namespaces.append(made)
        return made

    def cable(self, one: Namespace, one_device: str, other: Namespace, other_device: str) -> None:
        """A cable between two namespaces, up at both ends."""
        one.ip("link", "add", one_device, "type", "veth", "peer", "name", other_device, "netns", other.name)
        one.ip("link", "set", one_device, "up")
        other.ip("link", "set", other_device, "up")

    def guest(self, host: Namespace, device: str, name: str, number: int = 2) -> Namespace:
        """A guest behind `device` of the host, which knows nothing of the guest's addresses."""
        guest = self.namespace(name)
        self.cable(host, device, guest, "eth0")
        guest.ip("addr", "add", f"10.0.0.{number}/24", "dev", "eth0")
        guest.ip("-6", "addr", "add", f"fd01::{number}/64", "dev", "eth0", "nodad")
        guest.ip("route", "add", "default", "dev", "eth0")
        guest.ip("-6", "route", "add", "default", "dev", "eth0")
        return guest

    def container(self, guest: Namespace, name: str) -> Namespace:
        """A container in a guest, one hop behind it. The guest answers for its addresses outside."""
        container = self.namespace(name)
        self.cable(guest, "c0", container, "eth0")
        guest.ip("addr", "add", "10.1.0.1/24", "dev", "c0")
        guest.ip("-6", "addr", "add", "fd02::1/64", "dev", "c0", "nodad")
        container.ip("addr", "add", "10.1.0.2/24", "dev", "eth0")
        container.ip("-6", "addr", "add", "fd02::2/64", "dev", "eth0", "nodad")
        container.ip("route", "add", "default", "via", "10.1.0.1")
        container.ip("-6", "route", "add", "default", "via", "fd02::1")
        guest.set("ipv4/ip_forward", 1)
        guest.set("ipv6/conf/all/forwarding", 1)
        if guest.ip("link", "show", "eth0", check=False).returncode == 0:
            guest.set("ipv4/conf/eth0/proxy_arp", 1)
            guest.set("ipv6/conf/eth0/proxy_ndp", 1)
            guest.ip("-6", "neigh", "add", "proxy", "fd02::2", "dev", "eth0")
        return container

    def close(self) -> None:
        for namespace in reversed(self.namespaces):
            namespace.remove()


class LabRegion(Region):
    """An `inborn up` that runs in the host's namespace, and commands beside it."""

    def __init__(self, host: Namespace, data: Path, home: Path, *flags: str):
        super().__init__(data, home, *flags)
        self.host = host
        #: Made once: it takes boto3 a second.
        self.ec2 = None
        self.command_prefix = host.words

    def do(self, work):
        return self.host.do(work)

    def cli(self, *argv: str, check: bool = True, timeout: float = 60) -> Result:
        return run([*self.command_prefix, binary(), *argv], self.env, check=check, timeout=timeout)

    def launch(self, *flags: str) -> str:
        """A machine; its id."""
        return json.loads(self.cli("launch", "--output", "json", *flags).stdout)["instance_id"]

    def describe(self, machine: str) -> dict:
        return json.loads(self.cli("describe", machine, "--output", "json").stdout)

    def call(self, operation: str, **parameters) -> dict:
        """An operation of EC2."""
        if self.ec2 is None:
            self.ec2 = self.client("ec2")
        return self.do(lambda: getattr(self.ec2, operation)(**parameters))

    def modify(self, instance: str, **options) -> None:
        """ModifyInstanceMetadataOptions."""
        self.call("modify_instance_metadata_options", InstanceId=instance, **options)


@contextlib.contextmanager
def laboratory(place: Path, *flags: str) -> Iterator[tuple[Lab, Namespace, LabRegion]]:
    """A host with a running `up` in it."""
    lab = Lab()
    region = None
    try:
        host = lab.namespace("host")
        region = LabRegion(host, place / "data", place / "home", *flags).start()
        yield lab, host, region
    finally:
        if region is not None:
            region.kill()
        lab.close()
