"""Session Manager at a fleet: whoever asks at one server, and the agent whose channel is at another.

The AWS CLI and AWS's own plugin, both unmodified; the agent is the double of `agent/`, on a host apart from the region.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clients import AGENT, SESSION_MANAGER_PLUGIN, require
from double import PACE, ROLE, SETTING, Agent
from fleet_lab import REGION, START_SECONDS, Fleet, Server, fleet, postgres_programs
from fleet_people import Operator, World
from fleet_trouble import all_ready
from harness import boto_client, clean_env, scratch, tool, wait_until
from terminal import Seat, seat
from test_fleet import need_all

#: Until the shell is there, two programs have to start.
START = 60

pytestmark = pytest.mark.timeout(600)


class Parted:
    """Two servers, a machine on a host, and its agent, which knows the second server alone."""

    def __init__(self, made: Fleet, world: World, machine: str, agent: Agent):
        self.made, self.world, self.machine, self.agent = made, world, machine, agent
        self.here, self.there = made.servers

    def ssm(self, server: Server, work: Callable):
        """What `work` makes of the operator's client of a server."""
        there = f"http://{server.node.address}:{server.endpoint[1]}"
        ask = lambda: work(boto_client("ssm", there, REGION, server.operator()))  # noqa: E731
        return self.made.operators.space.do(ask)

    def sessions(self, server: Server, state: str) -> list[dict]:
        filters = [{"key": "Target", "value": self.machine}]
        return self.ssm(server, lambda ssm: ssm.describe_sessions(State=state, Filters=filters)["Sessions"])

    @contextlib.contextmanager
    def start(self, server: Server, place: Path, *more: str) -> Iterator[Seat]:
        """`aws ssm start-session` at a server, on the operators' computer."""
        programs = place / "programs"
        programs.mkdir()
        (programs / "session-manager-plugin").symlink_to(require(SESSION_MANAGER_PLUGIN).built)
        env = clean_env(place, **server.operator(), SSL_CERT_FILE=str(server.data / "ca.pem"), TERM="dumb")
        env["PATH"] = f"{programs}:{env['PATH']}"
        words = [tool("aws"), "ssm", "start-session", "--target", self.machine, *more]
        # `nsenter` becomes the CLI: what is at the terminal is the CLI's.
        with seat(["/usr/bin/env", *self.made.operators.command(words)], env) as terminal:
            yield terminal


@pytest.fixture(scope="module")
def parted() -> Iterator[Parted]:
    need_all()
    with scratch() as place, contextlib.ExitStack() as stack:
        (place / "home").mkdir(mode=0o755)
        made = stack.enter_context(fleet(place, postgres_programs(), 2, 1))
        world = World(made, 0)
        world.join_hosts()
        here, there = made.servers
        [host] = made.hosts
        assert made.operators.space.do(lambda: Operator(world, "one").launch(host))
        machine = next(iter(world.oracle.machines))
        wait_until(lambda: host.attach(machine), "the host knows the machine", START_SECONDS)
        address = f"http://{here.node.address}:{here.endpoint[1]}"
        pass_role = lambda: boto_client("ssm", address, REGION, here.operator()).update_service_setting(  # noqa: E731
            SettingId=SETTING, SettingValue=ROLE
        )
        made.operators.space.do(pass_role)
        env = clean_env(
            place / "home",
            AWS_EC2_METADATA_SERVICE_ENDPOINT=host.endpoints[machine],
            SSL_CERT_FILE=str(there.data / "ca.pem"),
        )
        # As on EC2 it looks for the services by their names; on its computer they lead to one server.
        services = ("ssm", "ssmmessages", "ec2messages")
        names = place / "hosts"
        names.write_text("".join(f"{there.node.address} {one}.{REGION}.amazonaws.com\n" for one in services))
        script = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'
        words = ["unshare", "--mount", "/bin/sh", "-c", script, "sh", names]
        words += [require(AGENT).argv[0], "--state", place / "disk", "--pace", str(PACE)]
        agent = Agent(host.node.command(words), env)
        stack.callback(agent.end)
        agent.wait("online", seconds=START_SECONDS)
        agent.wait("channel", seconds=START_SECONDS)
        parted = Parted(made, world, machine, agent)
        # A server asks those that it has heard of, and each is heard of a round after its start.
        is_known = lambda ssm: ssm.get_connection_status(Target=machine)["Status"] == "connected"  # noqa: E731
        wait_until(lambda: parted.ssm(here, is_known), f"{here.name} knows of the channel", START_SECONDS)
        yield parted


def test_a_shell_at_one_server_to_an_agent_at_another(parted: Parted, place: Path):
    with parted.start(parted.here, place) as terminal:
        terminal.see("Starting session with SessionId: ", START)
        terminal.type("echo at-$((6 * 7))\r")
        terminal.see(r"at-42\r+\n")
        # Both servers say the same of it.
        [session] = parted.sessions(parted.here, "Active")
        assert [one["SessionId"] for one in parted.sessions(parted.there, "Active")] == [session["SessionId"]]
        terminal.type("seq 1 20000\r")
        terminal.see(r"\n19998\r+\n19999\r+\n20000\r+\n")
        terminal.type("exit\r")
        terminal.see(f"Exiting session with sessionId: {session['SessionId']}")
        assert terminal.end() == 0
    parted.agent.wait("session over", session=session["SessionId"])
    wait_until(lambda: parted.sessions(parted.here, "History"), "the session is of the past")


def test_an_operator_ends_it_at_the_other_server(parted: Parted, place: Path):
    with parted.start(parted.here, place) as terminal:
        terminal.see("Starting session with SessionId: ", START)
        terminal.type("echo at-$((6 * 7))\r")
        terminal.see(r"at-42\r+\n")
        [session] = parted.sessions(parted.there, "Active")
        parted.ssm(parted.there, lambda ssm: ssm.terminate_session(SessionId=session["SessionId"]))
        terminal.see(f"Exiting session with sessionId: {session['SessionId']}")
        assert terminal.end() == 0
    parted.agent.wait("session over", session=session["SessionId"])


def test_a_command_at_one_server_to_an_agent_at_another(parted: Parted):
    send = {"DocumentName": "AWS-RunShellScript", "Parameters": {"commands": ["echo at-$((6 * 7))"]}}
    sent = parted.ssm(parted.here, lambda ssm: ssm.send_command(InstanceIds=[parted.machine], **send))
    command = {"CommandId": sent["Command"]["CommandId"], "InstanceId": parted.machine}

    def done(server: Server) -> str:
        said = parted.ssm(server, lambda ssm: ssm.get_command_invocation(**command))
        return said["StandardOutputContent"] if said["Status"] == "Success" else ""

    for server in parted.made.servers:
        assert wait_until(lambda server=server: done(server), "the command is done", 60) == "at-42\n"


def test_the_server_that_was_asked_is_killed_and_comes_back(parted: Parted, place: Path):
    """The agent's server has not noticed anything, and the first session after the start goes the same way."""
    parted.here.kill()
    assert parted.here.start()
    all_ready(parted.world)
    with parted.start(parted.here, place) as terminal:
        terminal.see("Starting session with SessionId: ", START)
        terminal.type("echo at-$((6 * 7)); exit\r")
        terminal.see(r"at-42\r+\n")
        terminal.see("Exiting session with sessionId: ")
        assert terminal.end() == 0
