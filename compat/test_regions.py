"""Two regions in one deployment at one endpoint, as boto3 and inborn's own commands see them."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from harness import Region, boto_client, wait_until
from metadata import Metadata, while_held

HOME, OTHER = "eu-central-1", "eu-west-1"

#: Each partition: a home, another of its regions, the domain, and the region of its global endpoint.
PARTITIONS = [
    ("aws", "us-east-1", "eu-west-1", "amazonaws.com"),
    ("aws-cn", "cn-north-1", "cn-northwest-1", "amazonaws.com.cn"),
    ("aws-us-gov", "us-gov-west-1", "us-gov-east-1", "amazonaws.com"),
    ("aws-iso", "us-iso-east-1", "us-iso-west-1", "c2s.ic.gov"),
    ("aws-iso-b", "us-isob-east-1", "us-isob-west-1", "sc2s.sgov.gov"),
    ("aws-iso-e", "eu-isoe-west-1", "eu-isoe-north-1", "cloud.adc-e.uk"),
    ("aws-iso-f", "us-isof-south-1", "us-isof-east-1", "csp.hci.ic.gov"),
    ("aws-eusc", "eusc-de-east-1", "eusc-de-west-1", "amazonaws.eu"),
]
GLOBAL = {
    "aws": "us-east-1",
    "aws-cn": "cn-northwest-1",
    "aws-us-gov": "us-gov-west-1",
    "aws-iso": "us-iso-east-1",
    "aws-iso-b": "us-isob-east-1",
    "aws-iso-e": "eu-isoe-west-1",
    "aws-iso-f": "us-isof-south-1",
    "aws-eusc": "eusc-de-east-1",
}


def code(call) -> str:
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.response["Error"]["Code"]


def launched(region: Region, *flags: str) -> tuple[str, dict]:
    """A machine on a port of 127.0.0.1, and its credentials."""
    machine = json.loads(region.cli("launch", "--output", "json", *flags).stdout)
    return machine["instance_id"], Metadata(machine["metadata_endpoint"]).identity()


def test_two_regions_at_one_endpoint(make_region):
    region = make_region("data", "--region", HOME, "--more-regions", OTHER).start()
    assert region.ready["regions"] == [HOME, OTHER]

    def client(service: str, name: str, credentials: dict | None = None):
        return boto_client(service, region.endpoint, name, credentials or region.operator())

    for name in (HOME, OTHER):
        described = client("ec2", name).describe_regions()["Regions"]
        assert [one["RegionName"] for one in described] == [HOME, OTHER]
        assert described[1]["Endpoint"] == f"ec2.{OTHER}.amazonaws.com"
        assert {one["OptInStatus"] for one in described} == {"opt-in-not-required"}
    assert code(lambda: client("ec2", HOME).describe_regions(RegionNames=["mars-1"])) == "InvalidParameterValue"

    here, of_here = launched(region, "--name", "here")
    there, of_there = launched(region, "--name", "there", "--region", OTHER)
    for own, foreign, instance, credentials in [(HOME, OTHER, here, of_here), (OTHER, HOME, there, of_there)]:
        listed = client("ec2", own).describe_instances()["Reservations"]
        assert [one["InstanceId"] for r in listed for one in r["Instances"]] == [instance]
        assert listed[0]["Instances"][0]["Placement"]["AvailabilityZone"] == f"{own}a"
        for name in (own, foreign):
            arn = client("sts", name, credentials).get_caller_identity()["Arn"]
            assert arn == f"arn:aws:sts::{region.account}:assumed-role/aws:ec2-instance/{instance}"
        ec2, ssm = (client(service, foreign, credentials) for service in ("ec2", "ssm"))
        assert code(ec2.describe_instances) == "AuthFailure"
        assert code(ssm.list_associations) == "UnrecognizedClientException"

    listed = json.loads(region.cli("ps", "--output", "json").stdout)
    assert {(one["instance_id"], one["region"]) for one in listed} == {(here, HOME), (there, OTHER)}
    assert {one["metadata_endpoint"] is None for one in listed} == {False}, "both are attached"
    table = region.cli("ps").stdout.splitlines()
    assert "REGION" in table[0] and any(there in line and OTHER in line for line in table[1:])
    assert "there" not in region.cli("ps", "--region", HOME).stdout
    assert region.cli("describe", "there", check=False).returncode == 1, "it is in the other region"
    assert f"{OTHER}a" in region.cli("describe", "there", "--region", OTHER).stdout
    unknown = region.cli("ps", "--region", "mars-1", check=False)
    assert unknown.returncode == 1 and f"serves {HOME}, {OTHER}, not mars-1" in unknown.stderr

    client("ec2", OTHER).terminate_instances(InstanceIds=[there])
    for name in (HOME, OTHER):
        refused = code(lambda name=name: client("sts", name, of_there).get_caller_identity())
        assert refused == "InvalidClientTokenId"
        client("sts", name, of_here).get_caller_identity()

    region.cli("quarantine", "--account", region.account)
    for name in (HOME, OTHER):
        listed = region.cli("quarantine", "--list", "--region", name).stdout
        assert region.account in listed
    region.cli("release", "--account", region.account, "--region", OTHER)
    assert region.account not in region.cli("quarantine", "--list").stdout


def test_a_region_is_added_to_a_data_directory_that_is_there(make_region):
    region = make_region("data", "--region", HOME).start()
    first, credentials = launched(region)
    before = region.operator()
    region.stop()
    region.flags = ("--region", HOME, "--more-regions", OTHER)
    region.start()
    assert region.operator()["AWS_ACCESS_KEY_ID"] == before["AWS_ACCESS_KEY_ID"]
    there, of_there = launched(region, "--region", OTHER)
    for name in (HOME, OTHER):
        for keys in (credentials, of_there):
            boto_client("sts", region.endpoint, name, keys).get_caller_identity()
    # Both machines and their ports come back.
    listed = json.loads(region.cli("ps", "--output", "json").stdout)
    assert {one["instance_id"] for one in listed} == {first, there}

    for endpoint in [one["metadata_endpoint"] for one in listed]:

        def served_anew(held: dict[str, str], endpoint: str = endpoint) -> bool:
            region.stop()
            region.start()
            return Metadata(endpoint).identity() == held

        assert while_held(endpoint, served_anew)[0]
    # Without its region it is nobody's; the home goes on, and says so.
    region.stop()
    region.flags = ("--region", HOME)
    region.start()
    wait_until(lambda: f'region="{OTHER}"' in region.output() or OTHER in region.output(), "the log names the region")
    refused = code(lambda: boto_client("sts", region.endpoint, HOME, of_there).get_caller_identity())
    assert refused == "InvalidClientTokenId"
    # And it is never a deployment of its own.
    alone = make_region("data", "--region", OTHER, data=region.data / "regions" / OTHER)
    with pytest.raises(AssertionError, match="belongs to the deployment whose home is eu-central-1"):
        alone.start()


@pytest.mark.parametrize(("partition", "home", "other", "domain"), PARTITIONS)
def test_a_deployment_in_each_partition(make_region, partition: str, home: str, other: str, domain: str):
    region = make_region("data", "--region", home, "--more-regions", other).start()
    assert (region.ready["partition"], region.ready["domain"]) == (partition, domain)
    instance, credentials = launched(region, "--region", other)
    expected = f"arn:{partition}:sts::{region.account}:assumed-role/aws:ec2-instance/{instance}"
    for name in (home, other, GLOBAL[partition]):
        told = boto_client("sts", region.endpoint, name, credentials).get_caller_identity()
        assert told["Arn"] == expected, name
    operator = boto_client("sts", region.endpoint, other, region.operator()).get_caller_identity()["Arn"]
    assert operator == f"arn:{partition}:iam::{region.account}:user/operator"
    endpoints = boto_client("ec2", region.endpoint, home, region.operator()).describe_regions()["Regions"]
    assert {one["Endpoint"] for one in endpoints} == {f"ec2.{home}.{domain}", f"ec2.{other}.{domain}"}


def test_partitions_are_not_mixed(make_region):
    region = make_region("data", "--region", "us-east-1", "--more-regions", "cn-north-1,us-gov-west-1")
    with pytest.raises(AssertionError, match="belongs to the partition aws-cn"):
        region.start()


# The AWS CLI starts four times.
@pytest.mark.timeout(180)
def test_a_pocket_of_another_region(make_region):
    region = make_region("data", "--region", HOME, "--more-regions", OTHER).start()
    # By the names of the endpoints, with TLS that the pocket trusts, and by the global one.
    script = f"""
        aws sts get-caller-identity --region {OTHER} --output text --query Arn
        aws sts get-caller-identity --region {HOME} --output text --query Arn
        aws sts get-caller-identity --region us-east-1 --endpoint-url https://sts.amazonaws.com \\
            --output text --query Arn
        aws ec2 describe-instances --region {HOME} || true
    """
    done = region.cli("run", "--region", OTHER, "--", "sh", "-ec", script, timeout=110)
    arns = done.stdout.split()
    assert len(arns) == 3 and len(set(arns)) == 1 and ":assumed-role/aws:ec2-instance/i-" in arns[0], done.stdout
    assert "AuthFailure" in done.stderr, "the home's other services do not know it"


def test_a_region_server_over_a_store_for_each_region(make_region, place):
    stores = ["--store", f"sqlite:{place}/one.db", "--region-store", f"{OTHER}=sqlite:{place}/two.db"]
    server = make_region("data", "--region", HOME, *stores)
    as_up = server.command
    server.command = lambda ready, *more: ["region" if word == "up" else word for word in as_up(ready, *more)]
    server.start()
    assert server.ready["regions"] == [HOME, OTHER]
    clients = {name: boto_client("ec2", server.endpoint, name, server.operator()) for name in (HOME, OTHER)}
    launched = {
        name: ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
        for name, ec2 in clients.items()
    }
    server.kill()
    server.start()
    for name in (HOME, OTHER):
        ec2 = boto_client("ec2", server.endpoint, name, server.operator())
        found = [one["InstanceId"] for r in ec2.describe_instances()["Reservations"] for one in r["Instances"]]
        assert found == [launched[name]], name
    assert (place / "one.db").exists() and (place / "two.db").exists()
