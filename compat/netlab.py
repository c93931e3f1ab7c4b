"""Network namespaces of a test's own, for root: a computer, and the world around it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from harness import ROOT

CI = os.environ.get("CI", "false") not in ("", "false")


def need(program: str, package: str) -> None:
    """Skips where a program is not installed; on CI that is a failure."""
    if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
        return
    reason = f"`{program}` is not here: apt-get install {package}"
    if CI:
        pytest.fail(reason)
    pytest.skip(reason)


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


class Computer:
    """A namespace that stands for a computer with a network, and one for the world beyond its router."""

    #: The computer's own address, its router's, and those of a server far away.
    OWN, ROUTER, WORLD = "203.0.113.2", "203.0.113.1", "198.51.100.7"
    OWN_V6, ROUTER_V6 = "2001:db8:1::2", "2001:db8:1::1"

    def __init__(self) -> None:
        tag = f"{os.getpid():x}"
        self.name, self.world = f"inb-c-{tag}", f"inb-w-{tag}"

    def inside(self, *argv: str, world: bool = False) -> list[str]:
        """The words that run a command there. Unlike `ip netns exec`, the file systems stay those of the test."""
        return ["nsenter", f"--net=/run/netns/{self.world if world else self.name}", "--", *argv]

    def make(self) -> None:
        for one in (self.name, self.world):
            ip("netns", "add", one)
            ip("-n", one, "link", "set", "lo", "up")
        ip("-n", self.name, "link", "add", "out0", "type", "veth", "peer", "name", "in0", "netns", self.world)
        for one, device, v4, v6 in (
            (self.name, "out0", self.OWN, self.OWN_V6),
            (self.world, "in0", self.ROUTER, self.ROUTER_V6),
        ):
            ip("-n", one, "address", "add", f"{v4}/24", "dev", device)
            ip("-n", one, "address", "add", f"{v6}/64", "dev", device, "nodad")
            ip("-n", one, "link", "set", device, "up")
        ip("-n", self.name, "route", "add", "default", "via", self.ROUTER)
        ip("-n", self.name, "route", "add", "default", "via", self.ROUTER_V6)
        ip("-n", self.world, "address", "add", f"{self.WORLD}/32", "dev", "lo")
        # The metadata of the cloud that this computer is a machine of.
        ip("-n", self.name, "address", "add", "169.254.169.254/32", "dev", "lo")
        ip("-n", self.name, "address", "add", "fd00:ec2::254/128", "dev", "lo", "nodad")

    def remove(self) -> None:
        for one in (self.name, self.world):
            subprocess.run(["ip", "netns", "delete", one], capture_output=True, check=False)


@contextlib.contextmanager
def computer() -> Iterator[Computer]:
    """One such computer; gone at the end."""
    if not ROOT:
        pytest.skip("only root can make a computer of namespaces")
    need("ip", "iproute2")
    one = Computer()
    try:
        one.make()
        yield one
    finally:
        one.remove()
