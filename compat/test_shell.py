"""Sessions: botocore, the AWS CLI and `inborn shell` as the operator, the agent double at the other end."""

from __future__ import annotations

import json
import subprocess

import pytest
from botocore.exceptions import ClientError

from double import Agent, Machine
from harness import Region, binary, run, tool, wait_until
from terminal import seat


def shell(region: Region, *argv: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [binary(), "shell", *argv]
    return subprocess.run(command, env=region.env, input=typed, capture_output=True, text=True, timeout=60)


def history(region: Region, machine: Machine) -> list[dict]:
    filters = [{"key": "Target", "value": machine.id}]
    return region.client("ssm").describe_sessions(State="History", Filters=filters)["Sessions"]


def test_a_pipe_is_what_is_typed(managed: Region, machine: Machine, agent: Agent):
    typed = "echo from-$((40 + 2))\nexit\n"
    done = shell(managed, machine.id, "--reason", "a look", typed=typed)
    assert done.returncode == 0, done.stderr
    assert "from-42" in done.stdout
    ended = wait_until(lambda: history(managed, machine), "the end of the session")[0]
    assert (ended["Status"], ended["Reason"]) == ("Terminated", "a look")
    assert ended["DocumentName"] == "SSM-SessionManagerRunShell"


def test_a_command_instead_of_a_shell(managed: Region, machine: Machine, agent: Agent):
    done = shell(managed, machine.id, "--", "sh", "-c", "echo 'two  words'")
    assert done.returncode == 0, done.stderr
    assert "two  words" in done.stdout
    ended = wait_until(lambda: history(managed, machine), "the end of the session")[0]
    assert ended["DocumentName"] == "AWS-StartInteractiveCommand"


def test_a_machine_that_is_not_connected(managed: Region, machine: Machine):
    done = shell(managed, machine.id)
    assert done.returncode == 1
    assert f"{machine.id} is not connected." in done.stderr
    ssm = managed.client("ssm")
    assert ssm.get_connection_status(Target=machine.id)["Status"] == "notconnected"
    with pytest.raises(ClientError) as refused:
        ssm.start_session(Target=machine.id)
    assert refused.value.response["Error"]["Code"] == "TargetNotConnected"
    assert history(managed, machine) == []


def test_botocore_and_the_aws_cli_start_list_and_end_sessions(managed: Region, machine: Machine, agent: Agent):
    ssm = managed.client("ssm")
    assert ssm.get_connection_status(Target=machine.id)["Status"] == "connected"
    started = ssm.start_session(
        Target=machine.id, DocumentName="AWS-StartPortForwardingSession", Parameters={"portNumber": ["22"]}
    )
    host = managed.endpoint.removeprefix("http://")
    assert started["StreamUrl"] == f"ws://{host}/v1/data-channel/{started['SessionId']}?role=publish_subscribe"
    agent.wait("session", session=started["SessionId"], type="Port")
    script = f'set -eu; . "{managed.ready["operator_env"]}"; exec "$@"'
    env = {**managed.env, "AWS_ENDPOINT_URL": managed.endpoint, "AWS_REGION": managed.name, "AWS_PAGER": ""}

    def aws(*argv: str) -> dict:
        call = ["/bin/sh", "-c", script, "sh", tool("aws"), "ssm", *argv, "--output", "json"]
        return json.loads(run(call, env, check=True).stdout)

    shown = aws("describe-sessions", "--state", "Active", "--filters", f"key=SessionId,value={started['SessionId']}")
    assert [one["Target"] for one in shown["Sessions"]] == [machine.id]
    assert aws("resume-session", "--session-id", started["SessionId"])["TokenValue"] != started["TokenValue"]
    assert aws("terminate-session", "--session-id", started["SessionId"])["SessionId"] == started["SessionId"]
    assert [one["SessionId"] for one in history(managed, machine)] == [started["SessionId"]]
    with pytest.raises(ssm.exceptions.DoesNotExistException):
        ssm.terminate_session(SessionId=started["SessionId"])


def test_a_terminal_is_given_back_as_it_was(managed: Region, machine: Machine, agent: Agent):
    with seat([binary(), "shell", machine.id], managed.env) as terminal:
        wait_until(terminal.is_raw, "every key being the machine's")
        terminal.type("echo here-$((40 + 2))\n")
        terminal.see("here-42")
        terminal.type("exit\n")
        assert terminal.end() == 0
        assert terminal.is_as_before()
