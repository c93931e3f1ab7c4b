"""`aws ssm start-session`: the AWS CLI and session-manager-plugin, both unmodified, and the agent double far away."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from clients import SESSION_MANAGER_PLUGIN, require
from double import Machine
from harness import Region, clean_env, tool, wait_until
from terminal import Seat, seat

#: Until the shell is there, two programs have to start.
START = 60

Start = Callable[..., AbstractContextManager[Seat]]


@pytest.fixture
def start(connected, place: Path) -> Start:
    """`aws ssm start-session` to the machine, at a terminal."""
    region, machine, _agent = connected
    programs = place / "programs"
    programs.mkdir()
    (programs / "session-manager-plugin").symlink_to(require(SESSION_MANAGER_PLUGIN).built)
    env = clean_env(place, **region.operator(), SSL_CERT_FILE=region.ready["ca_bundle"], TERM="dumb")
    env["PATH"] = f"{programs}:{env['PATH']}"
    return lambda *more: seat([tool("aws"), "ssm", "start-session", "--target", machine.id, *more], env)


def sessions(region: Region, machine: Machine, state: str) -> list[dict]:
    filters = [{"key": "Target", "value": machine.id}]
    return region.client("ssm").describe_sessions(State=state, Filters=filters)["Sessions"]


def test_a_shell_from_its_first_word_to_its_last(connected, start: Start):
    region, machine, agent = connected
    with start() as terminal:
        terminal.see("Starting session with SessionId: ", START)
        agent.wait("session")
        terminal.type("echo at-$((6 * 7))\r")
        terminal.see(r"at-42\r+\n")
        [session] = sessions(region, machine, "Active")

        def size() -> bool:
            terminal.type("stty size\r")
            return "33 91" in terminal.see(r"\d+ \d+\r+\n")

        wait_until(size, "the shell has the size of the terminal")
        terminal.type("seq 1 20000\r")
        terminal.see(r"\n19998\r+\n19999\r+\n20000\r+\n")
        terminal.type("exit\r")
        terminal.see(f"Exiting session with sessionId: {session['SessionId']}")
        assert terminal.end() == 0
    agent.wait("session over", session=session["SessionId"])
    wait_until(lambda: sessions(region, machine, "History"), "the session is of the past")


def test_keys_go_to_the_machine(connected, start: Start):
    with start() as terminal:
        terminal.see("Starting session with SessionId: ", START)
        terminal.type("sh -c 'echo waiting; exec sleep 300'\r")
        terminal.see(r"\nwaiting\r+\n")

        # A key that comes while the plugin is still making itself ready is lost, as it is to a person.
        def interrupted() -> bool:
            terminal.type("\x03")
            with contextlib.suppress(AssertionError):
                return bool(terminal.see(r"\^C[^$]*\$ ", 3))
            return False

        wait_until(interrupted, "the shell has the terminal again", 30)
        terminal.type("echo still $((40 + 2))\r")
        terminal.see(r"still 42\r+\n")


def test_an_operator_ends_it(connected, start: Start):
    region, machine, agent = connected
    with start() as terminal:
        terminal.see("Starting session with SessionId: ", START)
        terminal.type("echo at-$((6 * 7))\r")
        terminal.see(r"at-42\r+\n")
        [session] = sessions(region, machine, "Active")
        region.client("ssm").terminate_session(SessionId=session["SessionId"])
        terminal.see(f"Exiting session with sessionId: {session['SessionId']}")
        assert terminal.end() == 0
    agent.wait("session over", session=session["SessionId"])


def test_a_command_instead_of_a_shell(connected, start: Start):
    more = ("--document-name", "AWS-StartInteractiveCommand", "--parameters", "command=echo at-$((6*7))")
    with start(*more) as terminal:
        terminal.see("Starting session with SessionId: ", START)
        terminal.see(r"at-42\r+\n")
        terminal.see("Exiting session with sessionId: ")
        assert terminal.end() == 0
