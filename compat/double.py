"""The agent double of `agent/`: started for a machine, and heard while it runs."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

from clients import AGENT, require
from harness import Region, binary, clean_env, read_exports, wait_until
from metadata import Metadata

SETTING = "/ssm/managed-instance/default-ec2-instance-management-role"
ROLE = "AWSSystemsManagerDefaultEC2InstanceManagementRole"
#: How many times faster than the agent the double waits, where a test does not say.
PACE = 60


class Machine:
    """A machine of a region, heard over loopback: its disk, and the agent on it."""

    def __init__(self, region: Region, disk: Path):
        exports = read_exports(region.cli("launch", "--export").stdout)
        self.region, self.disk = region, disk
        self.id = exports["INSTANCE_ID"]
        self.metadata = exports["AWS_EC2_METADATA_SERVICE_ENDPOINT"]

    def start(self, *flags: str, endpoint: str | None = None, pace: float = PACE) -> Agent:
        """Starts the agent, which finds metadata by the one variable that it knows."""
        env = clean_env(
            self.disk.parent,
            AWS_EC2_METADATA_SERVICE_ENDPOINT=self.metadata,
            SSL_CERT_FILE=self.region.ready["ca_bundle"],
        )
        where = endpoint or self.region.ready["tls_endpoint"]
        argv = ["--state", str(self.disk), "--endpoint", where, "--pace", str(pace), *flags]
        return Agent([require(AGENT).argv[0], *argv], env)

    def identity(self) -> dict:
        """The credentials of its identity role."""
        return Metadata(self.metadata).identity()

    def registration(self) -> dict:
        """What the agent keeps of its registration."""
        return json.loads((self.disk / "EC2RegistrationKey").read_text())

    def session(self) -> dict:
        """The session that the agent keeps."""
        return json.loads((self.disk / "session").read_text())

    def clone(self, other: Machine) -> None:
        """Puts a copy of this machine's disk into another."""
        shutil.copytree(self.disk, other.disk)


class Agent:
    """A running agent, and what it has told."""

    def __init__(self, argv: list[str], env: dict[str, str]):
        self.told: list[dict] = []
        self.news = threading.Condition()
        self.started = time.time()
        self.process = subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.readers = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._log, daemon=True),
        ]
        self.log = ""
        for reader in self.readers:
            reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self.news:
                self.told.append(json.loads(line))
                self.news.notify_all()

    def _log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log += line

    def find(self, event: str, **facts) -> list[dict]:
        """What it has told of this kind, with these facts."""
        with self.news:
            return [told for told in self.told if told["event"] == event and facts.items() <= told.items()]

    def calls(self, operation: str, **facts) -> list[dict]:
        return self.find("call", operation=operation, **facts)

    def wait(self, event: str, *, seconds: float = 15, count: int = 1, **facts) -> dict:
        """Waits until it has told this `count` times; gives the last of them."""
        with self.news:
            self.news.wait_for(lambda: len(self.find(event, **facts)) >= count or not self._alive(), seconds)
        found = self.find(event, **facts)
        if len(found) < count:
            told = "\n".join(json.dumps(one) for one in self.told[-30:])
            raise AssertionError(f"not within {seconds} s: {count} of {event} {facts}\n{told}\n{self.log}")
        return found[count - 1]

    def _alive(self) -> bool:
        return self.process.poll() is None

    def online_after(self) -> float:
        """How many seconds after its start it was online."""
        return self.wait("online")["at"] - self.started

    def end(self) -> None:
        if self._alive():
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(15)
        for reader in self.readers:
            reader.join(5)


def in_a_pocket(region: Region, disk: Path, *flags: str) -> Agent:
    """An agent in a machine of `inborn run`, without any setting: names, trust and metadata are as on EC2."""
    argv = [require(AGENT).argv[0], "--state", str(disk), "--pace", str(PACE), *flags]
    return Agent([str(binary()), "run", "--", *argv], region.env)


def nodes(region: Region) -> dict[str, dict]:
    """The nodes that the operator sees, by id."""
    pages = region.client("ssm").get_paginator("describe_instance_information").paginate()
    return {node["InstanceId"]: node for page in pages for node in page["InstanceInformationList"]}


def ping_status(region: Region, instance: str) -> str | None:
    return nodes(region).get(instance, {}).get("PingStatus")


def await_channel(region: Region, instance: str) -> None:
    """Waits until the region knows that a machine's agent has a channel, which the agent knows before."""
    ssm = region.client("ssm")
    is_known = lambda: ssm.get_connection_status(Target=instance)["Status"] == "connected"  # noqa: E731
    wait_until(is_known, f"the region knows the channel of {instance}", 30)


class Lab:
    """Machines and agents of one test, ended with it."""

    def __init__(self, place: Path):
        self.place = place
        self.machines: list[Machine] = []
        self.agents: list[Agent] = []

    def machine(self, region: Region) -> Machine:
        made = Machine(region, self.place / f"disk-{len(self.machines)}")
        self.machines.append(made)
        return made

    def start(self, machine: Machine, *flags: str, **more) -> Agent:
        return self.keep(machine.start(*flags, **more))

    def keep(self, agent: Agent) -> Agent:
        self.agents.append(agent)
        return agent

    def end(self) -> None:
        for agent in self.agents:
            agent.end()
        for machine in self.machines:
            if machine.region.alive():
                machine.region.cli("terminate", machine.id, check=False)


def pass_role(region: Region) -> None:
    region.client("ssm").update_service_setting(SettingId=SETTING, SettingValue=ROLE)


def reset(region: Region) -> None:
    region.client("ssm").reset_service_setting(SettingId=SETTING)
