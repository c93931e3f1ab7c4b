"""`inborn launch`: a machine without namespaces, whose metadata is on a loopback port of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError
from botocore.utils import InstanceMetadataRegionFetcher

from harness import INSTANCE_ID, Region, binary, boto_client, read_exports, run, tool, wait_until
from metadata import Metadata, while_held

NAMES = {"INSTANCE_ID", "AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_REGION"}


@pytest.fixture
def machine(region: Region) -> Iterator[dict[str, str]]:
    """The variables of a machine just launched; it is terminated afterwards."""
    exports = read_exports(region.cli("launch", "--name", "web-1", "--tag", "role=web", "--export").stdout)
    yield exports
    region.cli("terminate", exports["INSTANCE_ID"], check=False)


def sts_of(machine: dict[str, str], credentials: dict[str, str]):
    return boto_client("sts", machine["AWS_ENDPOINT_URL"], machine["AWS_REGION"], credentials)


def refusal(call, **parameters) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"], answer["Error"]["Message"]


def test_the_exports_name_the_machine_and_its_endpoints(region: Region, machine: dict[str, str]):
    assert machine.keys() >= NAMES
    assert INSTANCE_ID.match(machine["INSTANCE_ID"])
    assert machine["AWS_REGION"] == region.name
    assert machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"].startswith("http://127.0.0.1:")


@pytest.mark.parametrize("version", [1, 2])
def test_metadata_is_the_machines_own(region: Region, version: int):
    launch = region.cli("launch", "--export")
    machine = read_exports(launch.stdout)
    client = boto_client("ec2", region.endpoint, region.name, region.operator())
    instance = machine["INSTANCE_ID"]
    if version == 1:
        client.modify_instance_metadata_options(InstanceId=instance, HttpTokens="optional")
    metadata = Metadata(machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"], version=version)
    assert metadata.get("meta-data/instance-id") == instance
    assert metadata.get("meta-data/placement/region") == region.name
    zone = metadata.get("meta-data/placement/availability-zone/")
    assert zone[:-1] == region.name
    assert metadata.get("meta-data/services/domain") == "amazonaws.com"
    assert metadata.get("meta-data/services/partition") == "aws"
    document = json.loads(metadata.get("dynamic/instance-identity/document"))
    assert (document["instanceId"], document["accountId"], document["region"]) == (
        instance,
        region.account,
        region.name,
    )
    region.cli("terminate", instance)


def test_a_machine_that_wants_tokens_gets_them(region: Region, machine: dict[str, str]):
    client = region.client("ec2")
    client.modify_instance_metadata_options(InstanceId=machine["INSTANCE_ID"], HttpTokens="required")
    endpoint = machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
    without = Metadata(endpoint, version=1)
    assert without.request("GET", "/latest/meta-data/instance-id")[0] == 401
    assert Metadata(endpoint).get("meta-data/instance-id") == machine["INSTANCE_ID"]


def test_botocores_own_reader_finds_the_region(machine: dict[str, str]):
    endpoint = machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"].rstrip("/") + "/"
    config = {"ec2_metadata_service_endpoint": endpoint}
    # By itself it waits for one second, once.
    fetcher = InstanceMetadataRegionFetcher(timeout=5, num_attempts=3, config=config, env={})
    assert fetcher.retrieve_region() == machine["AWS_REGION"]


def test_the_document_has_the_shape_that_sed_scripts_need(machine: dict[str, str]):
    metadata = Metadata(machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"])
    raw = metadata.get("meta-data/identity-credentials/ec2/security-credentials/ec2-instance")
    lines = raw.split("\n")
    keys = [line.split('"')[1] for line in lines[1:-1]]
    assert keys == ["Code", "LastUpdated", "Type", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"]
    assert (lines[0], lines[-1]) == ("{", "}")
    assert all(line.startswith('  "') and '" : "' in line and line.endswith('",') for line in lines[1:-2])
    info = json.loads(metadata.get("meta-data/identity-credentials/ec2/info"))
    assert list(info) == ["Code", "LastUpdated", "AccountId"]


def test_the_credentials_say_who_the_machine_is(region: Region, machine: dict[str, str]):
    credentials = Metadata(machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"]).identity()
    identity = sts_of(machine, credentials).get_caller_identity()
    instance = machine["INSTANCE_ID"]
    assert identity["Arn"] == f"arn:aws:sts::{region.account}:assumed-role/aws:ec2-instance/{instance}"
    assert identity["UserId"] == f"{region.account}:aws:ec2-instance:{instance}"
    assert identity["Account"] == region.account


def test_the_aws_cli_takes_the_exports_as_they_are(region: Region, machine: dict[str, str]):
    credentials = Metadata(machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"]).identity()
    keys = {
        "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
        "AWS_SESSION_TOKEN": credentials["Token"],
    }
    argv = [tool("aws"), "sts", "get-caller-identity", "--query", "Arn", "--output", "text"]
    arn = run(argv, {**region.env, **machine, **keys}, check=True).stdout.strip()
    assert arn.endswith(f":assumed-role/aws:ec2-instance/{machine['INSTANCE_ID']}")


def test_inborn_credentials_follows_the_exports(region: Region, machine: dict[str, str]):
    credentials, env = [binary(), "credentials"], {**region.env, **machine}

    def told(_: dict[str, str]) -> dict[str, str]:
        return json.loads(run(credentials, env, check=True).stdout)

    found, served = while_held(machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"], told)
    assert (found["Version"], found["AccessKeyId"]) == (1, served["AccessKeyId"])
    assert (found["SecretAccessKey"], found["SessionToken"]) == (served["SecretAccessKey"], served["Token"])


def test_one_character_more_is_no_credential(machine: dict[str, str]):
    good = Metadata(machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"]).identity()
    token = "A" if good["Token"][-9] != "A" else "B"
    bad = {**good, "Token": good["Token"][:-9] + token + good["Token"][-8:]}
    call = sts_of(machine, bad).get_caller_identity
    assert refusal(call) == (403, "InvalidClientTokenId", "The security token included in the request is invalid")
    bad = {**good, "SecretAccessKey": good["SecretAccessKey"][::-1]}
    assert refusal(sts_of(machine, bad).get_caller_identity)[:2] == (403, "SignatureDoesNotMatch")


def test_swapped_tokens_are_refused(region: Region, machine: dict[str, str]):
    other = read_exports(region.cli("launch", "--export").stdout)
    mine = Metadata(machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"]).identity()
    theirs = Metadata(other["AWS_EC2_METADATA_SERVICE_ENDPOINT"]).identity()
    mixed = {**mine, "Token": theirs["Token"]}
    assert refusal(sts_of(machine, mixed).get_caller_identity)[:2] == (403, "InvalidClientTokenId")
    region.cli("terminate", other["INSTANCE_ID"])


def test_a_metadata_token_is_good_for_one_machine(region: Region, machine: dict[str, str]):
    other = read_exports(region.cli("launch", "--export").stdout)
    stolen = Metadata(machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"]).headers
    there = Metadata(other["AWS_EC2_METADATA_SERVICE_ENDPOINT"])
    assert there.request("GET", "/latest/meta-data/instance-id", stolen)[0] == 401
    region.cli("terminate", other["INSTANCE_ID"])


def test_after_terminate_nothing_is_left(region: Region):
    machine = read_exports(region.cli("launch", "--name", "brief", "--export").stdout)
    endpoint = machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
    sts = sts_of(machine, Metadata(endpoint).identity())
    assert sts.get_caller_identity()["Account"] == region.account
    region.cli("terminate", "brief")
    # From the moment of the answer, not soon after it.
    status, code, _ = refusal(sts.get_caller_identity)
    assert (status, code) == (403, "InvalidClientTokenId")

    def silent() -> bool:
        try:
            return Metadata(endpoint, version=1).request("GET", "/latest/meta-data/instance-id")[0] != 200
        except OSError:
            return True

    wait_until(silent, "its metadata is gone")


def test_ps_and_describe_know_it(region: Region, machine: dict[str, str]):
    instance = machine["INSTANCE_ID"]
    listed = json.loads(region.cli("ps", "--output", "json").stdout)
    assert instance in json.dumps(listed)
    assert "web-1" in region.cli("ps").stdout
    described = region.cli("describe", "web-1", "--output", "json").stdout
    assert instance in described
    assert "role" in described
    assert region.cli("describe", "nobody", check=False).returncode != 0
