"""Every call leaves a line in the audit stream before it is answered, and none of them holds a secret."""

from __future__ import annotations

import json
import re
import signal
import stat
import subprocess
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from harness import Region, binary, read_exports
from metadata import Metadata


def lines_of(region: Region, answer: dict) -> list[dict]:
    """The lines of the call that gave this answer."""
    wanted = answer["ResponseMetadata"]["RequestId"]
    return [line for line in region.audit() if line["requestID"] == wanted]


def line_of(region: Region, answer: dict) -> dict:
    [line] = lines_of(region, answer)
    return line


def test_a_call_is_written_before_its_answer(region: Region):
    sts = region.client("sts")
    for _ in range(50):
        # Read at once: a line that comes later than the answer is missing here, sooner or later.
        line = line_of(region, sts.get_caller_identity())
        assert (line["eventSource"], line["eventName"]) == ("sts.amazonaws.com", "GetCallerIdentity")


def test_the_line_has_the_shape_of_cloudtrail(region: Region):
    answer = region.client("ec2").run_instances(ImageId="ami-0123456789abcdef0", MinCount=1, MaxCount=1)
    line = line_of(region, answer)
    assert line["eventSource"] == "ec2.amazonaws.com"
    assert line["eventName"] == "RunInstances"
    assert line["awsRegion"] == region.name
    assert line["recipientAccountId"] == region.account
    assert line["sourceIPAddress"] == "127.0.0.1"
    assert "Boto3" in line["userAgent"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line["eventTime"])
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", line["eventID"])
    assert line["userIdentity"]["accessKeyId"] == region.operator()["AWS_ACCESS_KEY_ID"]
    region.client("ec2").terminate_instances(InstanceIds=[answer["Instances"][0]["InstanceId"]])


@pytest.mark.parametrize(("version", "delivery"), [(1, "1.0"), (2, "2.0")])
def test_the_identity_session_is_told_in_full(region: Region, version: int, delivery: str):
    machine = read_exports(region.cli("launch", "--export").stdout)
    instance = machine["INSTANCE_ID"]
    ec2 = region.client("ec2")
    ec2.modify_instance_metadata_options(InstanceId=instance, HttpTokens="optional")
    credentials = Metadata(machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"], version=version).identity()
    identity = line_of(region, region.client("sts", credentials).get_caller_identity())["userIdentity"]
    account = region.account
    assert identity["type"] == "AssumedRole"
    assert identity["principalId"] == f"{account}:aws:ec2-instance:{instance}"
    assert identity["arn"] == f"arn:aws:sts::{account}:assumed-role/aws:ec2-instance/{instance}"
    assert identity["accountId"] == account
    assert identity["accessKeyId"] == credentials["AccessKeyId"]
    assert identity["sessionContext"]["sessionIssuer"] == {
        "type": "Role",
        "principalId": f"{account}:aws:ec2-instance",
        "arn": f"arn:aws:iam::{account}:role/aws:ec2-instance",
        "accountId": account,
        "userName": "aws:ec2-instance",
    }
    assert identity["sessionContext"]["ec2RoleDelivery"] == delivery
    ec2.terminate_instances(InstanceIds=[instance])


def test_a_refusal_is_written_too(region: Region):
    wrong = {**region.operator(), "AWS_SECRET_ACCESS_KEY": "x" * 40}
    with pytest.raises(ClientError) as caught:
        region.client("sts", wrong).get_caller_identity()
    line = line_of(region, caught.value.response)
    assert line["errorCode"] == "SignatureDoesNotMatch"
    with pytest.raises(ClientError) as caught:
        region.client("ec2").describe_instances(InstanceIds=["i-0123456789abcdef0"])
    assert line_of(region, caught.value.response)["errorCode"] == "Client.InvalidInstanceID.NotFound"


def test_no_secret_is_in_any_file_but_the_one_for_it(region: Region):
    machine = read_exports(region.cli("launch", "--export").stdout)
    credentials = Metadata(machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"]).identity()
    region.client("sts", credentials).get_caller_identity()
    operator_env = Path(region.ready["operator_env"])
    secrets = {
        "instance secret": credentials["SecretAccessKey"].encode(),
        "session token": credentials["Token"].encode(),
        "operator secret": region.operator()["AWS_SECRET_ACCESS_KEY"].encode(),
    }
    files = [path for path in region.data.rglob("*") if path.is_file() and path != operator_env]
    for path in [*files, region.log]:
        content = path.read_bytes()
        assert [name for name, secret in secrets.items() if secret in content] == [], path
    assert stat.S_IMODE(operator_env.stat().st_mode) == 0o600
    region.cli("terminate", machine["INSTANCE_ID"])


def test_the_command_lists_by_machine_and_time(region: Region):
    machine = read_exports(region.cli("launch", "--name", "watched", "--export").stdout)["INSTANCE_ID"]
    other = read_exports(region.cli("launch", "--export").stdout)["INSTANCE_ID"]
    region.cli("terminate", "watched")
    for name in [machine, "watched"]:
        told = region.cli("audit", "--instance", name, "--since", "10m", "--output", "json").stdout
        events = [json.loads(line) for line in told.splitlines()]
        assert [event["eventName"] for event in events if not event["readOnly"]] == [
            "RunInstances",
            "TerminateInstances",
        ]
        assert machine in told
        assert other not in told
    table = region.cli("audit", "--instance", machine).stdout
    assert re.search(r"operator +ec2:TerminateInstances +127\.0\.0\.1 +ok$", table, re.MULTILINE), table
    assert region.cli("audit", "--since", "2999-01-01T00:00:00Z").stdout == ""
    region.cli("terminate", other)


def test_the_command_follows_until_interrupted(region: Region):
    command = [binary(), "audit", "--follow", "--since", "1m", "--output", "json"]
    with subprocess.Popen(command, env=region.env, stdout=subprocess.PIPE, text=True) as follower:
        try:
            wanted = region.client("sts").get_caller_identity()["ResponseMetadata"]["RequestId"]
            assert any(json.loads(line)["requestID"] == wanted for line in follower.stdout)
            follower.send_signal(signal.SIGINT)
            assert follower.wait(20) == 0
        finally:
            follower.kill()
