"""Run Command: the AWS CLI, boto3 and `inborn exec`, and the agent double, which really runs what it is told."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from double import Agent, Machine, await_channel, pass_role
from harness import Region, binary, run, tool, wait_until

DOCUMENT = {
    "schemaVersion": "2.2",
    "description": "Greets.",
    "parameters": {"Word": {"type": "String", "default": "hello"}},
    "mainSteps": [{"action": "aws:runShellScript", "name": "greet", "inputs": {"runCommand": ["echo {{ Word }}"]}}],
}


def send(region: Region, machine: Machine, *commands: str, **more) -> str:
    sent = region.client("ssm").send_command(
        InstanceIds=[machine.id], DocumentName="AWS-RunShellScript", Parameters={"commands": list(commands)}, **more
    )
    return sent["Command"]["CommandId"]


def ended(region: Region, machine: Machine, command: str) -> dict:
    """What has become of a command, once nothing more becomes of it."""

    def look() -> dict | None:
        found = region.client("ssm").get_command_invocation(CommandId=command, InstanceId=machine.id)
        return None if found["Status"] in ("Pending", "InProgress", "Delayed", "Cancelling") else found

    return wait_until(look, "the end of the command", seconds=40)


def test_the_aws_cli_sends_a_command_and_waits(managed: Region, machine: Machine, agent: Agent):
    script = f'set -eu; . "{managed.ready["operator_env"]}"; exec "$@"'
    env = {**managed.env, "AWS_ENDPOINT_URL": managed.endpoint, "AWS_REGION": managed.name, "AWS_PAGER": ""}

    def aws(*argv: str) -> dict:
        shell = ["/bin/sh", "-c", script, "sh", tool("aws"), "ssm", *argv, "--output", "json"]
        return json.loads(run(shell, env, check=True).stdout or "null")

    words = json.dumps({"commands": ["echo out", "echo err >&2"]})
    sent = aws(
        "send-command", "--instance-ids", machine.id, "--document-name", "AWS-RunShellScript", "--parameters", words
    )["Command"]
    assert (sent["Status"], sent["TargetCount"]) == ("Pending", 1)
    which = ["--command-id", sent["CommandId"], "--instance-id", machine.id]
    aws("wait", "command-executed", *which)
    found = aws("get-command-invocation", *which)
    assert (found["Status"], found["ResponseCode"], found["PluginName"]) == ("Success", 0, "aws:runShellScript")
    assert (found["StandardOutputContent"].strip(), found["StandardErrorContent"].strip()) == ("out", "err")
    (command,) = aws("list-commands", "--command-id", sent["CommandId"])["Commands"]
    assert (command["Status"], command["CompletedCount"]) == ("Success", 1)
    listed = aws("list-command-invocations", "--command-id", sent["CommandId"], "--details")["CommandInvocations"]
    assert [plugin["Name"] for plugin in listed[0]["CommandPlugins"]] == ["aws:runShellScript"]
    # The agent has its replies acknowledged, and says nothing twice.
    agent.wait("reply acknowledged", known=True)
    assert agent.wait("job")["by"] == "ssmmessages" and not agent.find("reply again")


def test_a_command_that_fails_says_so(managed: Region, machine: Machine, agent: Agent):
    found = ended(managed, machine, send(managed, machine, "echo no >&2", "exit 3"))
    assert (found["Status"], found["ResponseCode"], found["StandardErrorContent"].strip()) == ("Failed", 3, "no")


def test_the_last_reply_may_come_first(managed: Region, machine: Machine):
    agent = machine.start("--final-first")
    try:
        agent.wait("online")
        await_channel(managed, machine.id)
        command = send(managed, machine, "echo out")
        assert ended(managed, machine, command)["Status"] == "Success"
        agent.wait("reply acknowledged", count=2)
        assert ended(managed, machine, command)["StandardOutputContent"].strip() == "out"
    finally:
        agent.end()


def test_a_machine_that_is_away_is_told_when_it_comes_back(managed: Region, machine: Machine):
    first = machine.start()
    first.wait("online")
    first.end()
    command = send(managed, machine, "echo back")
    second = machine.start()
    try:
        assert ended(managed, machine, command)["StandardOutputContent"].strip() == "back"
    finally:
        second.end()


def test_a_command_is_cancelled(managed: Region, machine: Machine, agent: Agent):
    command = send(managed, machine, "sleep 60")
    agent.wait("job")
    managed.client("ssm").cancel_command(CommandId=command)
    assert ended(managed, machine, command)["Status"] == "Cancelled"
    agent.wait("cancel")


def test_a_document_of_ones_own(managed: Region, machine: Machine, agent: Agent):
    ssm = managed.client("ssm")
    ssm.create_document(Name="Greet", Content=json.dumps(DOCUMENT), DocumentType="Command", DocumentFormat="JSON")
    assert ssm.describe_document(Name="Greet")["Document"]["PlatformTypes"] == ["Linux", "MacOS"]
    sent = ssm.send_command(
        Targets=[{"Key": "InstanceIds", "Values": [machine.id]}], DocumentName="Greet", Parameters={"Word": ["moin"]}
    )["Command"]
    ssm.delete_document(Name="Greet")
    ssm.get_waiter("command_executed").wait(
        CommandId=sent["CommandId"], InstanceId=machine.id, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    found = ssm.get_command_invocation(CommandId=sent["CommandId"], InstanceId=machine.id)
    assert (found["PluginName"], found["StandardOutputContent"].strip()) == ("greet", "moin")
    names = {
        one["Name"] for page in ssm.get_paginator("list_documents").paginate() for one in page["DocumentIdentifiers"]
    }
    assert {"AWS-RunShellScript", "AWS-RunPowerShellScript"} <= names and "Greet" not in names
    with pytest.raises(ClientError) as caught:
        ssm.get_document(Name="Greet")
    assert caught.value.response["Error"]["Code"] == "InvalidDocument"


def test_a_region_that_is_killed_in_mid_command(make_region: Callable[..., Region], place: Path):
    first = make_region().start()
    pass_role(first)
    machine = Machine(first, place / "disk")
    agent = machine.start()
    try:
        agent.wait("online")
        await_channel(first, machine.id)
        command = send(
            first, machine, f"touch {place}/begun", f"while ! [ -e {place}/go ]; do sleep 0.1; done", "echo done"
        )
        wait_until(lambda: (place / "begun").exists(), "the command has begun")
        second = make_region(
            "data", "--port", str(first.port), "--tls-port", first.ready["tls_endpoint"].rsplit(":")[-1]
        )
        first.kill()
        second.start()
        (place / "go").touch()
        assert ended(second, machine, command)["StandardOutputContent"].strip() == "done"
        assert second.client("ssm").list_commands(CommandId=command)["Commands"][0]["Status"] == "Success"
        assert len(agent.find("done")) == 1
    finally:
        agent.end()


def test_exec_is_the_command(managed: Region, machine: Machine, agent: Agent):
    done = managed.cli(
        "exec", machine.id, "--", "sh", "-c", 'echo "$1"; echo err >&2; exit 7', "sh", "it's $HOME", check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "it's $HOME\n", "err\n")
    assert managed.cli("exec", machine.id, "--", "true").returncode == 0
    told = json.loads(managed.cli("exec", machine.id, "--output", "json", "--", "echo", "x").stdout)
    assert told == [{"instance_id": machine.id, "status": "Success", "exit_code": 0, "stdout": "x\n", "stderr": ""}]
    timed = managed.cli("exec", "--timeout", "1", machine.id, "--", "sleep", "50", check=False)
    assert timed.returncode in (125, 137), timed
    nobody = managed.cli("exec", "i-00000000000000000", "--", "true", check=False)
    assert (nobody.returncode, nobody.stdout) == (125, "") and nobody.stderr.startswith("inborn: ")
    silent = managed.cli("exec", "--tag", "no=body", "--", "true", check=False)
    assert silent.returncode == 125 and "inborn nodes" in silent.stderr


def test_exec_on_all_with_a_tag(managed: Region, machine: Machine, agent: Agent, place: Path):
    other = Machine(managed, place / "other")
    second = other.start()
    try:
        second.wait("online")
        ids = sorted([machine.id, other.id])
        managed.client("ec2").create_tags(Resources=ids, Tags=[{"Key": "role", "Value": "web"}])
        done = managed.cli("exec", "--tag", "role=web", "--", "echo", "hi")
        assert done.stdout == "".join(f"== {one}: exit status 0\nhi\n" for one in ids)
        failed = managed.cli("exec", "--tag", "role=web", "--output", "json", "--", "false", check=False)
        assert (failed.returncode, [one["exit_code"] for one in json.loads(failed.stdout)]) == (1, [1, 1])
    finally:
        second.end()
        managed.cli("terminate", other.id)


def test_exec_that_is_interrupted_cancels(managed: Region, machine: Machine, agent: Agent):
    argv = [str(binary()), "exec", machine.id, "--", "sleep", "60"]
    process = subprocess.Popen(argv, env=managed.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    agent.wait("job")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 125 and "was cancelled" in errors
    assert agent.wait("done")["status"] == "Cancelled"
