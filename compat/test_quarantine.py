"""Quarantine: a machine runs on without an identity, until it is released."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from harness import Region, boto_client, read_exports, wait_until
from metadata import Metadata

CREDENTIALS = "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance"


def code_of(region: Region, credentials: dict[str, str]) -> str | None:
    """What STS answers somebody with these credentials: the code of its refusal, if it refuses."""
    try:
        boto_client("sts", region.endpoint, region.name, credentials).get_caller_identity()
    except ClientError as error:
        return error.response["Error"]["Code"]
    return None


def test_a_machine_in_quarantine_has_no_identity(fresh: Region):
    region = fresh
    machine = read_exports(region.cli("launch", "--name", "web-1", "--export").stdout)
    instance = machine["INSTANCE_ID"]
    metadata = Metadata(machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"])
    credentials = metadata.identity()
    assert code_of(region, credentials) is None

    region.cli("quarantine", "web-1", "--reason", "ticket 4711")
    assert code_of(region, credentials) == "InvalidClientTokenId"
    token = {"x-aws-ec2-metadata-token": metadata.token()}
    assert metadata.request("GET", CREDENTIALS, token)[0] == 404
    assert metadata.get("meta-data/instance-id") == instance
    assert "identity-credentials" not in metadata.get("meta-data/")
    described = region.client("ec2").describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
    assert described["State"]["Name"] == "running"
    assert described["StateReason"]["Code"] == "Inborn.Quarantine"
    assert "ticket 4711" in described["StateReason"]["Message"]
    assert "ticket 4711" in region.cli("describe", "web-1").stdout
    (listed,) = json.loads(region.cli("quarantine", "--list", "--output", "json").stdout)
    assert (listed["subject"], listed["reason"]) == (instance, "ticket 4711")

    region.cli("release", "web-1")
    assert code_of(region, credentials) == "ExpiredToken"
    # New ones are dated behind what the release has cut off, minutes ahead, and are there at once.
    wait_until(lambda: metadata.request("GET", CREDENTIALS, token)[0] == 200, "it has credentials again")
    assert code_of(region, metadata.identity()) is None
    described = region.client("ec2").describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
    assert "StateReason" not in described
    assert region.cli("quarantine", "--list").stdout == "nobody is in quarantine\n"
    names = [line["eventName"] for line in region.audit()]
    assert names.count("Inborn.PutQuarantine") == names.count("Inborn.EndQuarantine") == 1


def test_nobody_but_who_is_named_is_touched(fresh: Region):
    first, second = (read_exports(fresh.cli("launch", "--export").stdout) for _ in range(2))
    fresh.cli("quarantine", first["INSTANCE_ID"])
    other = Metadata(second["AWS_EC2_METADATA_SERVICE_ENDPOINT"]).identity()
    assert code_of(fresh, other) is None
    fresh.cli("quarantine", "--all")
    assert code_of(fresh, other) == "InvalidClientTokenId"
    refused = fresh.cli("release", "--host", "h-0123456789abcdef0", check=False)
    assert refused.returncode == 1
    assert "is not in quarantine" in refused.stderr


@pytest.mark.parametrize("arguments", [[], ["--list", "--all"], ["--list", "--reason", "x"]])
def test_what_makes_no_sense_is_refused(fresh: Region, arguments: list[str]):
    assert fresh.cli("quarantine", *arguments, check=False).returncode == 2
