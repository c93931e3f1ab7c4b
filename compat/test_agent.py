"""Default Host Management with an agent: the double of `agent/`, which speaks with the SDK of the real one.

The scenarios are those that a real agent was observed in. What a test says of waits is what the agent would wait.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from double import (
    ROLE,
    SETTING,
    Lab,
    Machine,
    in_a_pocket,
    nodes,
    pass_role,
    ping_status,
    reset,
)
from faults import between
from harness import ONCE, Region, at_best_within, boto_client, wait_until

#: What an agent does after a refusal that does not mend itself: it sleeps so long, in seconds.
LONG_SLEEP = (25 * 60, 30 * 60)


def test_an_agent_is_online_in_seconds_without_any_setting(managed: Region, lab: Lab):
    def online(number: int) -> float:
        agent = lab.keep(in_a_pocket(managed, lab.place / f"pocket-{number}"))
        seconds = agent.wait("online")["at"] - agent.wait("started")["at"]
        print(
            f"online {seconds:.3f} s after the agent knew its machine, {agent.online_after():.3f} s after `inborn run`"
        )
        return seconds

    at_best_within(3, online)
    agent = lab.agents[-1]
    instance = agent.wait("started")["instance"]
    agent.wait("call", operation="UpdateInstanceInformation", status=200, count=2)
    assert agent.find("no profile") == [{**agent.wait("no profile"), "code": "EC2RoleRequestError"}]
    node = wait_until(lambda: "ComputerName" in nodes(managed)[instance] and nodes(managed)[instance], "the node")
    assert (node["PingStatus"], node["ComputerName"], node["IamRole"]) == ("Online", "double", ROLE)
    agent.wait("call", operation="ListInstanceAssociations", status=200, count=2)
    # None of what an agent says is refused, and nothing is sent twice; a poll that it gives up itself is neither.
    answered = [call for call in agent.find("call") if call["code"] != "RequestCanceled"]
    assert [call for call in answered if call["status"] != 200 or call["tries"] != 1] == []


def test_a_restart_neither_registers_nor_asks_for_a_session(managed: Region, lab: Lab):
    machine = lab.machine(managed)
    first = lab.start(machine)
    first.wait("online")
    first.end()
    second = lab.start(machine)
    second.wait("online")
    assert second.wait("registered")["kept"] and second.wait("credentials")["kept"]
    assert not second.calls("RegisterManagedInstance") and not second.calls("RequestManagedInstanceRoleToken")


def test_two_machines_are_two_nodes(managed: Region, lab: Lab):
    machines = [lab.machine(managed) for _ in range(2)]
    for machine, name in zip(machines, ("one", "two"), strict=True):
        agent = lab.start(machine, "--computer", name)
        agent.wait("call", operation="UpdateInstanceInformation", status=200, count=2)
    found = nodes(managed)
    assert [found[machine.id]["ComputerName"] for machine in machines] == ["one", "two"]
    assert machines[0].session()["AccessKeyID"] != machines[1].session()["AccessKeyID"]


def test_a_cloned_disk_registers_its_key_for_the_new_machine(managed: Region, lab: Lab):
    golden, clone = lab.machine(managed), lab.machine(managed)
    lab.start(golden).wait("online")
    golden.clone(clone)
    agent = lab.start(clone)
    agent.wait("online")
    assert agent.wait("found keys")["of"] == golden.id
    assert agent.wait("registered")["answer"] == clone.id
    assert clone.registration()["publicKey"] == golden.registration()["publicKey"]
    assert {ping_status(managed, machine.id) for machine in (golden, clone)} == {"Online"}
    # The session on the copied disk was the other machine's, and is not used for this one.
    assert agent.calls("RequestManagedInstanceRoleToken", status=200)


@pytest.mark.parametrize("tries", [1, 2, 3])
def test_a_token_request_that_is_tried_again_carries_stale_signatures(managed: Region, lab: Lab, tries: int):
    machine = lab.machine(managed)
    target = "AmazonSSM.RequestManagedInstanceRoleToken"
    with between(managed.port) as proxy:
        proxy.fail(target, *["refuse"] * tries)
        agent = lab.start(machine, endpoint=proxy.address)
        agent.wait("online")
        (call,) = agent.calls("RequestManagedInstanceRoleToken")
        assert (call["status"], call["tries"], call["stale"]) == (200, tries + 1, tries)
        assert [fault for seen, fault in proxy.seen if seen == target] == ["refuse"] * tries + [None]
        agent.end()


def test_answers_that_are_lost_do_no_harm(managed: Region, lab: Lab):
    machine = lab.machine(managed)
    with between(managed.port) as proxy:
        proxy.fail("AmazonSSM.RegisterManagedInstance", "lose", "lose")
        proxy.fail("AmazonSSM.RequestManagedInstanceRoleToken", "lose", "refuse")
        agent = lab.start(machine, endpoint=proxy.address)
        agent.wait("online")
        assert [call["tries"] for call in agent.calls("RegisterManagedInstance", status=200)] == [3]
        assert [call["stale"] for call in agent.calls("RequestManagedInstanceRoleToken", status=200)] == [2]
        agent.end()


def test_another_key_has_no_session(managed: Region, lab: Lab):
    machine, other = lab.machine(managed), lab.machine(managed)
    for one in (machine, other):
        agent = lab.start(one)
        agent.wait("online")
        agent.end()
    foreign = {name: other.registration()[name] for name in ("privateKey", "publicKey")}
    keep(machine, machine.registration() | foreign)
    (machine.disk / "session").unlink()
    agent = lab.start(machine)
    refused = agent.wait("no credentials")
    assert (refused["code"], refused["wait"]) == ("InvalidSignatureException", 5 * 60)
    assert agent.calls("RequestManagedInstanceRoleToken")[0]["tries"] == 1


def keep(machine: Machine, registration: dict) -> None:
    (machine.disk / "EC2RegistrationKey").write_text(json.dumps(registration))


def test_a_lost_disk_waits_for_the_operator(managed: Region, lab: Lab):
    machine = lab.machine(managed)
    first = lab.start(machine)
    first.wait("online")
    first.end()
    shutil.rmtree(machine.disk)
    second = lab.start(machine)
    assert second.wait("no credentials")["message"] == "ec2 instance not yet registered"
    assert second.calls("RegisterManagedInstance")[0]["code"] == "InstanceAlreadyRegistered"
    second.end()
    # AWS knows no such thing: botocore's model demands an id as long as those of hybrid machines.
    loose = ONCE.merge(Config(parameter_validation=False))
    managed.client("ssm", config=loose).deregister_managed_instance(InstanceId=machine.id)
    again = managed.cli("nodes", "forget", machine.id, check=False)
    assert (again.returncode, "is not registered" in again.stderr) == (1, True)
    third = lab.start(machine)
    third.wait("online")
    # The key that was made before is the one that is registered now.
    assert third.wait("found keys")["of"] == ""
    third.end()
    managed.cli("nodes", "forget", machine.id)
    with pytest.raises(ClientError) as caught:
        whoami(managed, machine.session())
    assert caught.value.response["Error"]["Code"] == "ExpiredToken"


def test_sessions_are_renewed_and_the_one_before_stays_good(managed: Region, lab: Lab):
    machine = lab.machine(managed)
    agent = lab.start(machine, pace=900)
    agent.wait("credentials")
    first = machine.session()
    agent.wait("credentials", count=2, seconds=30)
    wait_until(lambda: machine.session()["AccessKeyID"] != first["AccessKeyID"], "the next session")
    for session in (first, machine.session()):
        assert whoami(managed, session).endswith(f"assumed-role/{ROLE}/{machine.id}")
    assert [call for call in agent.calls("UpdateInstanceInformation") if call["status"] != 200] == []


def whoami(region: Region, session: dict) -> str:
    return sts(region, session).get_caller_identity()["Arn"]


def sts(region: Region, session: dict):
    keys = {
        "AWS_ACCESS_KEY_ID": session["AccessKeyID"],
        "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"],
        "AWS_SESSION_TOKEN": session["SessionToken"],
    }
    return boto_client("sts", region.endpoint, region.name, keys)


def test_turned_off_and_on(fresh: Region, lab: Lab):
    machine = lab.machine(fresh)
    off = lab.start(machine)
    refused = off.wait("no credentials")
    assert refused["code"] == "AccessDeniedException"
    assert refused["message"] == (
        f"Systems Manager's instance management role is not configured for account: {fresh.account}"
    )
    assert LONG_SLEEP[0] <= refused["wait"] <= LONG_SLEEP[1]
    assert off.calls("RegisterManagedInstance", status=200)
    assert machine.id not in nodes(fresh)
    off.end()
    pass_role(fresh)
    on = lab.start(machine)
    on.wait("online")
    assert on.wait("registered")["kept"]
    assert ping_status(fresh, machine.id) == "Online"


def test_turned_off_while_it_runs(fresh: Region, lab: Lab):
    pass_role(fresh)
    machine = lab.machine(fresh)
    # Health every two seconds.
    agent = lab.start(machine, pace=150)
    agent.wait("call", operation="UpdateInstanceInformation", status=200, count=2)
    session = machine.session()
    reset(fresh)
    with pytest.raises(ClientError) as caught:
        whoami(fresh, session)
    assert caught.value.response["Error"]["Code"] == "ExpiredToken"
    refused = agent.wait("call", operation="UpdateInstanceInformation", code="ExpiredTokenException", seconds=20)
    assert refused["status"] == 400
    agent.end()
    # One that starts with the session that it kept says one word, and waits when that is refused.
    again = lab.start(machine)
    hibernating = again.wait("hibernating")
    assert (hibernating["code"], hibernating["wait"]) == ("ExpiredTokenException", 5 * 60)
    assert {call["operation"] for call in again.find("call")} == {"UpdateInstanceInformation"}


def test_the_command_line_lists_nodes(fresh: Region, lab: Lab):
    assert fresh.cli("nodes").stdout.startswith("no nodes")
    fresh.cli("role", "create", "Agents", "--path", "/fleet/")
    fresh.client("ssm").update_service_setting(SettingId=SETTING, SettingValue="fleet/Agents")
    agent = lab.start(lab.machine(fresh))
    agent.wait("call", operation="UpdateInstanceInformation", status=200, count=2)
    (node,) = json.loads(fresh.cli("nodes", "--output", "json").stdout)
    instance = agent.wait("started")["instance"]
    assert (node["instance_id"], node["ping_status"], node["role"]) == (instance, "Online", "fleet/Agents")
    heading, row = fresh.cli("nodes").stdout.splitlines()
    assert heading.split()[:2] == ["INSTANCE", "STATUS"] and row.split()[:2] == [instance, "Online"]
    assert fresh.cli("nodes", "forget", instance, "--output", "json", check=False).returncode == 2


def test_the_command_line_makes_and_deletes_roles(fresh: Region):
    assert [role["passed"] for role in json.loads(fresh.cli("role", "list", "--output", "json").stdout)] == [False]
    made = json.loads(fresh.cli("role", "create", "Agents", "--output", "json").stdout)
    assert made["arn"] == f"arn:aws:iam::{fresh.account}:role/Agents"
    twice = fresh.cli("role", "create", "agents", check=False)
    assert (twice.returncode, "EntityAlreadyExists" in twice.stderr) == (1, True)
    fresh.client("ssm").update_service_setting(SettingId=SETTING, SettingValue="Agents")
    roles = {role["role"]: role for role in json.loads(fresh.cli("role", "list", "--output", "json").stdout)}
    assert roles.keys() == {"Agents", ROLE} and roles["Agents"]["passed"] and not roles[ROLE]["passed"]
    assert "DeleteConflict" in fresh.cli("role", "delete", "Agents", check=False).stderr
    reset(fresh)
    fresh.cli("role", "delete", "Agents")
    assert "Agents" not in fresh.cli("role", "list").stdout


def test_a_terminated_machine_is_nobody(managed: Region, lab: Lab):
    machine = lab.machine(managed)
    agent = lab.start(machine, pace=150)
    agent.wait("call", operation="UpdateInstanceInformation", status=200, count=2)
    assert machine.id in nodes(managed)
    managed.cli("terminate", machine.id)
    refused = agent.wait("call", operation="UpdateInstanceInformation", status=400, seconds=20)
    assert refused["code"] == "UnrecognizedClientException"
    assert machine.id not in nodes(managed)


def test_a_control_channel_stays_open(managed: Region, lab: Lab):
    machine = lab.machine(managed)
    # A ping five times a second.
    agent = lab.start(machine, pace=300)
    agent.wait("channel", instance=machine.id)
    agent.wait("call", operation="UpdateInstanceInformation", status=200, count=3)
    # A minute after the channel was opened, at this pace, the older way of messages is given up.
    agent.wait("polls end", seconds=25)
    assert not agent.find("no channel")
    assert ping_status(managed, machine.id) == "Online"


def test_a_control_channel_ends_with_the_setting(fresh: Region, lab: Lab):
    pass_role(fresh)
    machine = lab.machine(fresh)
    agent = lab.start(machine)
    agent.wait("channel")
    reset(fresh)
    assert agent.wait("no channel", seconds=20)["opened"]
    # What it tries then is refused, but not in the one way that would send it back to the older messages.
    refused = agent.wait("no channel", opened=False)
    assert refused["error"] != "AccessDeniedException" and refused["wait"] >= 5


def test_a_control_channel_ends_with_its_machine(managed: Region, lab: Lab):
    machine = lab.machine(managed)
    agent = lab.start(machine)
    agent.wait("channel")
    managed.cli("terminate", machine.id)
    assert agent.wait("no channel", seconds=20)["opened"]


def test_a_region_that_is_back_has_its_agents_back(make_region: Callable[..., Region], lab: Lab):
    region = make_region().start()
    pass_role(region)
    machine = lab.machine(region)
    # Its session is renewed after a minute.
    agent = lab.start(machine, pace=30)
    agent.wait("channel")
    region.stop()
    agent.wait("no channel")
    region.start()
    agent.wait("channel", count=2, seconds=30)
    assert ping_status(region, machine.id) == "Online"
    assert len(agent.find("credentials")) == 1
