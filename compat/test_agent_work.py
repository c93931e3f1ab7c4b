"""What agents are told to do: commands by both ways of messages, shells and ports; over restarts and lost words."""

from __future__ import annotations

import json
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from botocore.exceptions import ClientError

from clients import PLUGIN, require
from double import Lab, Machine, await_channel, in_a_pocket, pass_role
from harness import Region, clean_env, wait_until

SCRIPT = "AWS-RunShellScript"


def send(region: Region, machine: Machine, *lines: str, **more) -> str:
    """Sends a script; gives the command's id."""
    ssm = region.client("ssm")
    parameters = {"commands": list(lines), **more.pop("parameters", {})}
    sent = ssm.send_command(InstanceIds=[machine.id], DocumentName=SCRIPT, Parameters=parameters, **more)
    return sent["Command"]["CommandId"]


def result(region: Region, machine: Machine, command: str) -> dict:
    return region.client("ssm").get_command_invocation(CommandId=command, InstanceId=machine.id)


def finished(region: Region, machine: Machine, command: str, seconds: float = 20) -> dict:
    """What became of a command, once nothing more becomes of it."""
    waiting = ("Pending", "InProgress", "Delayed", "Cancelling")

    def over():
        found = result(region, machine, command)
        return found if found["Status"] not in waiting else None

    return wait_until(over, f"the end of {command}", seconds)


def test_a_command_says_what_it_did(connected):
    region, machine, agent = connected
    command = send(
        region, machine, "echo out", "echo err >&2", "pwd", "exit 3", parameters={"workingDirectory": ["/usr"]}
    )
    done = finished(region, machine, command)
    assert (done["Status"], done["ResponseCode"]) == ("Failed", 3)
    assert (done["StandardOutputContent"], done["StandardErrorContent"]) == ("out\n/usr\n", "err\n")
    assert agent.wait("job")["by"] == "ssmmessages"
    # Both replies were acknowledged, and known to be the agent's.
    agent.wait("reply acknowledged", known=True, count=2)
    good = finished(region, machine, send(region, machine, 'echo "$AWS_SSM_INSTANCE_ID"'))
    assert (good["Status"], good["ResponseCode"], good["StandardOutputContent"]) == ("Success", 0, f"{machine.id}\n")


def test_a_command_acts_as_the_machine(managed: Region, lab: Lab):
    agent = lab.keep(in_a_pocket(managed, lab.place / "disk"))
    instance = agent.wait("started")["instance"]
    agent.wait("channel")
    ssm = managed.client("ssm")
    script = "aws sts get-caller-identity --query Arn --output text"
    sent = ssm.send_command(InstanceIds=[instance], DocumentName=SCRIPT, Parameters={"commands": [script]})
    command = sent["Command"]["CommandId"]
    ssm.get_waiter("command_executed").wait(
        CommandId=command, InstanceId=instance, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    said = ssm.get_command_invocation(CommandId=command, InstanceId=instance)["StandardOutputContent"]
    assert said.strip().endswith(f"assumed-role/AWSSystemsManagerDefaultEC2InstanceManagementRole/{instance}")


def test_the_last_word_may_come_first(managed: Region, lab: Lab):
    machine = lab.machine(managed)
    agent = lab.start(machine, "--final-first")
    agent.wait("channel")
    await_channel(managed, machine.id)
    command = send(managed, machine, "echo done")
    agent.wait("reply acknowledged", count=2)
    assert finished(managed, machine, command)["Status"] == "Success"
    time.sleep(0.3)
    assert result(managed, machine, command)["Status"] == "Success"


def test_commands_reach_agents_without_a_channel(managed: Region, lab: Lab):
    machine = lab.machine(managed)
    # The gateway is TLS alone: at the plain endpoint the agent has no channel, and goes on asking for messages.
    agent = lab.start(machine, endpoint=managed.endpoint)
    agent.wait("no channel", opened=False)
    done = finished(managed, machine, send(managed, machine, "echo by the older way; exit 2"))
    assert (done["Status"], done["ResponseCode"], done["StandardOutputContent"]) == ("Failed", 2, "by the older way\n")
    assert agent.wait("job")["by"] == "ec2messages"
    assert {call["status"] for call in agent.calls("SendReply") + agent.calls("AcknowledgeMessage")} == {200}


def test_a_command_that_runs_is_cancelled(connected):
    region, machine, agent = connected
    command = send(region, machine, "sleep 60")
    wait_until(lambda: result(region, machine, command)["Status"] == "InProgress", "it runs")
    region.client("ssm").cancel_command(CommandId=command)
    agent.wait("cancel")
    assert finished(region, machine, command)["Status"] == "Cancelled"


def test_a_command_that_takes_too_long(connected):
    region, machine, _agent = connected
    command = send(region, machine, "sleep 60", parameters={"executionTimeout": ["1"]})
    done = finished(region, machine, command)
    assert (done["Status"], done["StatusDetails"]) == ("TimedOut", "ExecutionTimedOut")


def test_an_agent_that_was_away_is_told_when_it_is_back(managed: Region, lab: Lab):
    machine = lab.machine(managed)
    agent = lab.start(machine)
    agent.wait("channel")
    agent.end()
    command = send(managed, machine, "echo back", TimeoutSeconds=60)
    assert result(managed, machine, command)["Status"] == "Pending"
    lab.start(machine)
    assert finished(managed, machine, command)["StandardOutputContent"] == "back\n"


def test_the_region_restarts_in_the_middle_of_a_command(make_region: Callable[..., Region], lab: Lab):
    region = make_region().start()
    pass_role(region)
    machine = lab.machine(region)
    ran, go = lab.place / "ran", lab.place / "go"
    agent = lab.start(machine)
    agent.wait("channel")
    await_channel(region, machine.id)
    command = send(region, machine, f"echo x >> {ran}; while ! [ -e {go} ]; do sleep 0.1; done; echo done")
    wait_until(ran.exists, "it runs")
    region.stop()
    go.touch()
    # Its last word finds nobody; the agent keeps it and says it again.
    agent.wait("done")
    region.start()
    done = finished(region, machine, command, seconds=40)
    assert (done["Status"], done["StandardOutputContent"]) == ("Success", "done\n")
    assert ran.read_text() == "x\n"


def test_the_command_line_is_the_command(connected):
    region, machine, _agent = connected
    ran = region.cli("exec", machine.id, "--", "sh", "-c", "echo out; echo err >&2; exit 5", check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (5, "out\n", "err\n")


class Plugin:
    """The client's end of a session."""

    def __init__(self, region: Region, target: str, *flags: str, **more):
        self.answer = region.client("ssm").start_session(Target=target, **more)
        self.id = self.answer["SessionId"]
        argv = [require(PLUGIN).argv[0], *flags, json.dumps(self.answer)]
        env = clean_env(region.home, SSL_CERT_FILE=region.ready["ca_bundle"])
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(argv, env=env, **pipes)
        self.output, self.told = b"", []
        self.readers = [threading.Thread(target=read, daemon=True) for read in (self._out, self._err)]
        for reader in self.readers:
            reader.start()

    def _out(self) -> None:
        while piece := self.process.stdout.read1():
            self.output += piece

    def _err(self) -> None:
        for line in self.process.stderr:
            self.told.append(json.loads(line))

    def type(self, text: str) -> None:
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def shows(self, text: str) -> None:
        wait_until(lambda: text.encode() in self.output, f"{text!r} in {self.output!r}, {self.told}", 15)

    def tells(self, event: str) -> dict:
        found = lambda: [told for told in self.told if told["event"] == event]  # noqa: E731
        return wait_until(found, f"{event} in {self.told}", 15)[0]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for reader in self.readers:
            reader.join(5)


@pytest.fixture
def talk() -> Iterator[Callable[..., Plugin]]:
    begun: list[Plugin] = []

    def begin(*arguments, **more) -> Plugin:
        begun.append(Plugin(*arguments, **more))
        return begun[-1]

    yield begin
    for plugin in begun:
        plugin.end()


def sessions(region: Region, state: str) -> dict[str, dict]:
    return {one["SessionId"]: one for one in region.client("ssm").describe_sessions(State=state)["Sessions"]}


def test_a_shell_from_its_first_word_to_its_last(connected, talk):
    region, machine, agent = connected
    assert region.client("ssm").get_connection_status(Target=machine.id)["Status"] == "connected"
    plugin = talk(region, machine.id)
    agent.wait("session", session=plugin.id)
    plugin.type("echo $((6*7))-$0\n")
    plugin.shows("42-sh")
    plugin.type("\\size 132 43\n")
    plugin.type("stty size\n")
    plugin.shows("43 132")
    assert plugin.id in sessions(region, "Active")
    # Much output comes whole and in order.
    plugin.type("seq 1 20000 | sha256sum; seq 1 20000\n")
    plugin.shows("\n19999\r\n20000\r\n")
    plugin.type("exit\n")
    assert plugin.tells("closed")["session"] == plugin.id
    assert agent.wait("session over", session=plugin.id)["status"] == "Success"
    wait_until(lambda: plugin.id in sessions(region, "History"), "the session is of the past")


def test_an_operator_ends_a_shell(connected, talk):
    region, machine, agent = connected
    plugin = talk(region, machine.id)
    plugin.type("echo $((6*7))\n")
    plugin.shows("42")
    region.client("ssm").terminate_session(SessionId=plugin.id)
    plugin.tells("closed")
    agent.wait("channel closed", session=plugin.id)
    agent.wait("session over", session=plugin.id)


def test_a_token_is_good_once(connected, talk):
    region, machine, _agent = connected
    plugin = talk(region, machine.id)
    plugin.tells("open")
    plugin.type("echo $((6*7))\n")
    plugin.shows("42")
    argv = [require(PLUGIN).argv[0], json.dumps(plugin.answer)]
    again = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    assert again.returncode == 1 and again.stdout == b""
    # Whoever has it already is not disturbed.
    plugin.type("echo $((6*8))\n")
    plugin.shows("48")


def test_bytes_pass_to_a_port_and_back(connected, talk):
    region, machine, _agent = connected

    class Echo(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while piece := self.request.recv(65536):
                self.request.sendall(piece)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        parameters = {"portNumber": [str(server.server_address[1])], "localPortNumber": ["0"]}
        more = {"DocumentName": "AWS-StartPortForwardingSession", "Parameters": parameters}
        plugin = talk(region, machine.id, "--forward", "0", **more)
        assert plugin.tells("handshake")["actions"] == "SessionType"
        port = plugin.tells("listening")["port"]
        sent = bytes(range(256)) * 4096
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            threading.Thread(target=connection.sendall, args=(sent,), daemon=True).start()
            found = b""
            while len(found) < len(sent):
                found += connection.recv(65536)
        assert found == sent
        plugin.process.stdin.close()
        plugin.tells("closed")
        server.shutdown()


def test_nobody_talks_to_a_machine_that_is_away(managed: Region, lab: Lab):
    machine = lab.machine(managed)
    with pytest.raises(ClientError) as caught:
        managed.client("ssm").start_session(Target=machine.id)
    assert caught.value.response["Error"]["Code"] == "TargetNotConnected"


def test_the_audit_tells_of_commands_and_sessions(connected, talk):
    region, machine, agent = connected
    finished(region, machine, send(region, machine, "true"))
    plugin = talk(region, machine.id)
    plugin.type("exit\n")
    agent.wait("session over", session=plugin.id)
    told = {line["eventName"] for line in region.audit()}
    assert told >= {"SendCommand", "StartSession", "CreateControlChannel", "OpenControlChannel"}
    assert plugin.answer["TokenValue"] not in region.audit_text()
