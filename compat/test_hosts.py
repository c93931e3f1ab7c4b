"""Hosts apart from their region: a machine that is placed on one is itself to boto3, also while its region is away."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from harness import READY_SECONDS, Region, binary, boto_client, clean_env, free_port, run, wait_until
from metadata import Metadata, while_held

EVICTED = 4
#: By when a host has kept what it knows: after a slow disk it rests, at most for a minute.
KEPT_SECONDS = 70
#: By when a host that was evicted has done what that asks of it, on a busy machine.
EVICTED_SECONDS = 20


class Host:
    """One `inborn host`, joined to a region by a token."""

    def __init__(self, region: Region, place: Path, address: str):
        self.data, self.home, self.ready = place / "host", region.home, place / "host-ready.json"
        token = region.cli("host", "token").stdout
        joined = subprocess.run(
            [binary(), "host", "join", "--region-endpoint", address, "--data", self.data],
            input=token,
            env=clean_env(self.home),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        self.id = re.search(r"h-[0-9a-f]{17}", joined.stdout).group()
        self.process: subprocess.Popen | None = None

    def start(self, *flags: str) -> Host:
        self.ready.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [binary(), "host", "--data", self.data, "--ready-file", self.ready, *flags],
            env=clean_env(self.home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self.ready.exists, "`inborn host` is ready", READY_SECONDS)
        return self

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def cli(self, *argv: str, check: bool = True):
        return run([binary(), *argv, "--data", self.data], clean_env(self.home), check=check)

    def attach(self, machine: str) -> str:
        """Attaches a machine to a port; gives its endpoint."""
        known = wait_until(lambda: machine in self.cli("host", "status").stdout, f"{machine} is known on its host")
        assert known
        attached = self.cli("attach", machine, "--loopback", "--output", "json").stdout
        return json.loads(attached)["metadata_endpoint"]


@pytest.fixture
def pair(make_region: Callable[..., Region], place: Path) -> Iterator[tuple[Region, Host]]:
    port = str(free_port())
    region = make_region("region", "--hosts-port", port).start()
    host = Host(region, place, f"127.0.0.1:{port}").start()
    yield region, host
    host.kill()


def launch(region: Region, host: Host, name: str) -> str:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}]
    launched = region.client("ec2").run_instances(
        ImageId="ami-0123456789abcdef0", MinCount=1, MaxCount=1, Placement={"HostId": host.id}, TagSpecifications=tags
    )
    instance = launched["Instances"][0]
    assert instance["Placement"]["HostId"] == host.id
    return instance["InstanceId"]


def identity(endpoint: str) -> dict[str, str] | None:
    """What the machine at an endpoint holds, if it is served."""
    try:
        return Metadata(endpoint).identity()
    except (OSError, AssertionError):
        return None


def test_a_machine_on_a_host_is_itself_to_boto3(pair: tuple[Region, Host]):
    region, host = pair
    instance = launch(region, host, "web-1")
    endpoint = host.attach("web-1")
    credentials = wait_until(lambda: identity(endpoint), "the machine has a credential")
    sts = boto_client("sts", region.endpoint, region.name, credentials)
    assert sts.get_caller_identity()["Arn"].endswith(f"assumed-role/aws:ec2-instance/{instance}")
    document = json.loads(Metadata(endpoint).get("dynamic/instance-identity/document"))
    assert (document["instanceId"], document["region"]) == (instance, region.name)

    def is_kept() -> bool:
        return json.loads(host.cli("host", "status", "--output", "json").stdout)["is_kept"]

    def served_alone(_held: dict[str, str]) -> tuple[dict[str, str] | None, dict[str, str] | None]:
        """What is served while the region is away, before and after a restart of the host."""
        wait_until(is_kept, "all is kept", KEPT_SECONDS)
        region.kill()
        before = identity(endpoint)
        host.kill()
        host.start()
        after = identity(endpoint)
        region.start()
        wait_until(lambda: identity(endpoint), "the machine has a credential")
        return before, after

    served, held = while_held(endpoint, served_alone)
    assert served == (held, held)
    sts = boto_client("sts", region.endpoint, region.name, identity(endpoint))
    assert sts.get_caller_identity()["Arn"].endswith(instance)


def test_an_evicted_host_serves_nothing_and_its_machines_are_nobody(pair: tuple[Region, Host]):
    region, host = pair
    launch(region, host, "web-1")
    endpoint = host.attach("web-1")
    credentials = wait_until(lambda: identity(endpoint), "the machine has a credential")
    region.cli("host", "evict", host.id)
    with pytest.raises(ClientError) as refused:
        boto_client("sts", region.endpoint, region.name, credentials).get_caller_identity()
    assert refused.value.response["Error"]["Code"] == "InvalidClientTokenId"
    wait_until(lambda: identity(endpoint) is None, "the host serves nothing", EVICTED_SECONDS)
    assert host.process.wait(EVICTED_SECONDS) == EVICTED
    assert host.cli("host", check=False).returncode == EVICTED
