"""Metadata and EC2's operations tell one story: the tree of a machine, and what boto3 sees and changes of it."""

from __future__ import annotations

import base64
import ipaddress
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import Region, read_exports, run
from metadata import Metadata
from test_operator_ec2 import IMAGE, error_of

INTERFACES = "meta-data/network/interfaces/macs"


@pytest.fixture
def machine(region: Region) -> Iterator[Callable[..., tuple[str, str]]]:
    """`machine("--flag", …)` launches one with a port of its own: its id and its metadata endpoint."""
    started: list[str] = []

    def call(*flags: str) -> tuple[str, str]:
        exports = read_exports(region.cli("launch", "--export", *flags).stdout)
        started.append(exports["INSTANCE_ID"])
        return exports["INSTANCE_ID"], exports["AWS_EC2_METADATA_SERVICE_ENDPOINT"]

    yield call
    if started:
        region.client("ec2").terminate_instances(InstanceIds=started)


@pytest.fixture
def key_name(region: Region) -> Iterator[str]:
    """A name for a key pair, which is deleted afterwards."""
    name = f"key-{uuid.uuid4()}"
    yield name
    region.client("ec2").delete_key_pair(KeyName=name)


def described(region: Region, instance: str) -> dict:
    found = region.client("ec2").describe_instances(InstanceIds=[instance])
    return found["Reservations"][0]["Instances"][0]


def crawl(metadata: Metadata, directory: str) -> dict[str, str]:
    """Every leaf below a directory, found as cloud-init finds them."""
    leaves = {}
    for entry in metadata.get(directory).splitlines():
        if directory.endswith("public-keys/"):
            number = entry.split("=", 1)[0]
            leaves |= crawl(metadata, f"{directory}{number}/")
        elif entry.endswith("/"):
            leaves |= crawl(metadata, directory + entry)
        else:
            leaves[directory + entry] = metadata.get(directory + entry)
    return leaves


def test_the_network_is_one_story(region: Region, machine):
    instance, endpoint = machine()
    tree = crawl(Metadata(endpoint), "meta-data/")
    shown = described(region, instance)
    [interface] = shown["NetworkInterfaces"]
    mac = tree["meta-data/mac"]
    leaf = lambda name: tree[f"{INTERFACES}/{mac}/{name}"]  # noqa: E731
    assert interface["MacAddress"] == mac == leaf("mac")
    assert interface["NetworkInterfaceId"] == leaf("interface-id")
    assert interface["SubnetId"] == shown["SubnetId"] == leaf("subnet-id")
    assert interface["VpcId"] == shown["VpcId"] == leaf("vpc-id")
    assert interface["OwnerId"] == leaf("owner-id")
    assert str(interface["Attachment"]["DeviceIndex"]) == leaf("device-number")
    assert interface["PrivateIpAddress"] == leaf("local-ipv4s") == tree["meta-data/local-ipv4"]
    assert interface["PrivateDnsName"] == leaf("local-hostname") == tree["meta-data/local-hostname"]
    for groups in (shown["SecurityGroups"], interface["Groups"]):
        assert [group["GroupId"] for group in groups] == leaf("security-group-ids").splitlines()
        assert [group["GroupName"] for group in groups] == tree["meta-data/security-groups"].splitlines()
    assert ipaddress.ip_address(leaf("local-ipv4s")) in ipaddress.ip_network(leaf("subnet-ipv4-cidr-block"))
    assert leaf("vpc-ipv4-cidr-block") == leaf("vpc-ipv4-cidr-blocks").splitlines()[0]
    assert shown["RootDeviceName"] == tree["meta-data/block-device-mapping/root"]
    assert shown["Placement"]["AvailabilityZone"] == tree["meta-data/placement/availability-zone"]
    assert shown["Monitoring"]["State"] == Metadata(endpoint).get("dynamic/fws/instance-monitoring")


def test_what_a_launch_says_of_ipv6_and_placement_is_shown(region: Region):
    client = region.client("ec2")
    placement = {"GroupName": "spread", "PartitionNumber": 2}
    parameters = {**IMAGE, "MinCount": 2, "MaxCount": 2, "PrivateIpAddress": "192.168.7.7"}
    assert error_of(client.run_instances, **parameters) == (400, "InvalidParameterCombination")
    more = {"Ipv6AddressCount": 1, "Placement": placement}
    launched = client.run_instances(**IMAGE, MinCount=2, MaxCount=2, **more)["Instances"]
    ids = [instance["InstanceId"] for instance in launched]
    shown = [described(region, instance) for instance in ids]
    for instance in shown:
        [interface] = instance["NetworkInterfaces"]
        assert [each["Ipv6Address"] for each in interface["Ipv6Addresses"]] == [instance["Ipv6Address"]]
        assert ipaddress.ip_address(instance["Ipv6Address"]).is_private
        assert {name: instance["Placement"][name] for name in placement} == placement
    for name in ("MacAddress", "NetworkInterfaceId"):
        assert len({instance["NetworkInterfaces"][0][name] for instance in shown}) == 2
    client.terminate_instances(InstanceIds=ids)


@pytest.mark.parametrize("key_type", ["rsa", "ed25519"])
def test_a_key_that_is_made_opens_what_metadata_serves(region: Region, machine, key_name, tmp_path: Path, key_type):
    client = region.client("ec2")
    made = client.create_key_pair(KeyName=key_name, KeyType=key_type)
    private = tmp_path / "key"
    private.write_text(made["KeyMaterial"])
    private.chmod(0o600)
    public = run(["ssh-keygen", "-y", "-f", str(private)], {"PATH": "/usr/bin:/bin"}).stdout.split()
    _, endpoint = machine("--key-name", key_name)
    metadata = Metadata(endpoint)
    assert metadata.get("meta-data/public-keys/") == f"0={key_name}"
    assert metadata.get("meta-data/public-keys/0/openssh-key") == f"{public[0]} {public[1]} {key_name}\n"
    [pair] = client.describe_key_pairs(KeyNames=[key_name], IncludePublicKey=True)["KeyPairs"]
    assert (pair["KeyType"], pair["KeyPairId"]) == (key_type, made["KeyPairId"])
    assert pair["KeyFingerprint"] == made["KeyFingerprint"] == fingerprint(private, key_type)
    assert pair["PublicKey"].split()[:2] == public[:2]
    assert "KeyMaterial" not in pair
    body = made["KeyMaterial"].splitlines()[2]
    for file in region.data.rglob("*"):
        assert not file.is_file() or body.encode() not in file.read_bytes(), f"the private half is in {file}"
    client.delete_key_pair(KeyName=key_name)
    assert metadata.get("meta-data/public-keys/0/openssh-key").endswith(f" {key_name}\n"), "the machine keeps it"


def fingerprint(private: Path, key_type: str) -> str:
    """As the EC2 user guide says to make it, with openssl or ssh-keygen."""
    if key_type == "ed25519":
        shown = subprocess.check_output(["ssh-keygen", "-l", "-f", str(private)], text=True).split()[1]
        return shown.removeprefix("SHA256:") + "="
    pkcs8 = ["openssl", "pkcs8", "-in", str(private), "-inform", "PEM", "-outform", "DER", "-topk8", "-nocrypt"]
    digest = subprocess.run(
        ["openssl", "sha1", "-c"], input=subprocess.check_output(pkcs8), capture_output=True, check=True
    )
    return digest.stdout.decode().split("= ")[1].strip()


def test_a_key_that_is_imported_is_served(region: Region, machine, key_name, tmp_path: Path):
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-C", "me@host", "-f", str(tmp_path / "key")],
        check=True,
    )
    client, public = region.client("ec2"), (tmp_path / "key.pub").read_text()
    tags = [{"ResourceType": "key-pair", "Tags": [{"Key": "team", "Value": key_name}]}]
    imported = client.import_key_pair(KeyName=key_name, PublicKeyMaterial=public.encode(), TagSpecifications=tags)
    der = subprocess.check_output(["openssl", "rsa", "-in", str(converted(tmp_path)), "-pubout", "-outform", "DER"])
    md5 = subprocess.run(["openssl", "md5", "-c"], input=der, capture_output=True, check=True).stdout.decode()
    assert imported["KeyFingerprint"] == md5.split("= ")[1].strip()
    found = client.describe_key_pairs(Filters=[{"Name": "tag:team", "Values": [key_name]}])["KeyPairs"]
    assert [pair["KeyPairId"] for pair in found] == [imported["KeyPairId"]]
    of_key = [{"Name": "resource-id", "Values": [imported["KeyPairId"]]}]
    [tag] = client.describe_tags(Filters=of_key)["Tags"]
    assert (tag["ResourceType"], tag["Key"], tag["Value"]) == ("key-pair", "team", key_name)
    _, endpoint = machine("--key-name", key_name)
    assert Metadata(endpoint).get("meta-data/public-keys/0/openssh-key").split()[:2] == public.split()[:2]
    assert error_of(client.import_key_pair, KeyName=key_name, PublicKeyMaterial=public.encode()) == (
        400,
        "InvalidKeyPair.Duplicate",
    )
    assert error_of(client.import_key_pair, KeyName="other", PublicKeyMaterial=b"no key") == (400, "InvalidKey.Format")


def converted(directory: Path) -> Path:
    """The same private key in the form that openssl reads."""
    subprocess.run(["ssh-keygen", "-q", "-p", "-m", "PEM", "-N", "", "-f", str(directory / "key")], check=True)
    return directory / "key"


def test_a_launch_with_a_key_that_is_none_is_refused(region: Region):
    parameters = {**IMAGE, "MinCount": 1, "MaxCount": 1, "KeyName": "never-made"}
    assert error_of(region.client("ec2").run_instances, **parameters) == (400, "InvalidKeyPair.NotFound")


def test_options_are_pending_then_applied_and_in_force(region: Region, machine):
    instance, endpoint = machine("--tag", "a=b")
    client, path = region.client("ec2"), "/latest/meta-data/tags/instance/a"
    for change, version, expected in (
        ({"HttpTokens": "optional"}, 1, 404),
        ({"InstanceMetadataTags": "enabled"}, 1, 200),
        ({"HttpTokens": "required", "HttpEndpoint": "enabled"}, 1, 401),
        ({"InstanceMetadataTags": "disabled"}, 2, 404),
        ({"HttpEndpoint": "disabled"}, 1, 403),
    ):
        answer = client.modify_instance_metadata_options(InstanceId=instance, **change)["InstanceMetadataOptions"]
        status = Metadata(endpoint, version=version)
        assert status.request("GET", path, status.headers)[0] == expected, "in force on the very next request"
        assert answer["State"] == "pending"
        shown = described(region, instance)["MetadataOptions"]
        assert shown["State"] == "applied"
        assert {name: shown[name] for name in change} == change
        assert {name: answer[name] for name in change} == change


def test_account_defaults_are_for_launches_to_come(region: Region, machine):
    client = region.client("ec2")
    assert client.get_instance_metadata_defaults()["AccountLevel"] == {"ManagedBy": "account"}
    instance, _ = machine()
    try:
        assert client.modify_instance_metadata_defaults(
            HttpTokens="optional", HttpPutResponseHopLimit=3, InstanceMetadataTags="enabled"
        )["Return"]
        level = client.get_instance_metadata_defaults()["AccountLevel"]
        assert (level["HttpTokens"], level["HttpPutResponseHopLimit"]) == ("optional", 3)
        assert described(region, instance)["MetadataOptions"]["HttpTokens"] == "required"
        later, endpoint = machine()
        shown = described(region, later)["MetadataOptions"]
        assert (shown["HttpTokens"], shown["HttpPutResponseHopLimit"], shown["InstanceMetadataTags"]) == (
            "optional",
            3,
            "enabled",
        )
        assert Metadata(endpoint, version=1).request("GET", "/latest/meta-data/instance-id")[0] == 200
        asked, _ = machine("--http-tokens", "required")
        shown = described(region, asked)["MetadataOptions"]
        assert (shown["HttpTokens"], shown["HttpPutResponseHopLimit"]) == ("required", 3)
        client.modify_instance_metadata_defaults(HttpTokensEnforced="enabled", HttpTokens="no-preference")
        optional = {**IMAGE, "MinCount": 1, "MaxCount": 1, "MetadataOptions": {"HttpTokens": "optional"}}
        assert error_of(client.run_instances, **optional) == (400, "UnsupportedOperation")
        give_up = {"InstanceId": asked, "HttpTokens": "optional"}
        assert error_of(client.modify_instance_metadata_options, **give_up) == (400, "UnsupportedOperation")
    finally:
        client.modify_instance_metadata_defaults(
            HttpTokens="no-preference",
            HttpPutResponseHopLimit=-1,
            InstanceMetadataTags="no-preference",
            HttpTokensEnforced="no-preference",
        )
    assert client.get_instance_metadata_defaults()["AccountLevel"] == {"ManagedBy": "account"}


def test_user_data_is_changed_while_stopped(region: Region, machine, tmp_path: Path):
    (tmp_path / "script").write_text("#!/bin/sh\necho first\n")
    instance, endpoint = machine("--user-data", str(tmp_path / "script"))
    client = region.client("ec2")
    assert Metadata(endpoint).get("user-data") == "#!/bin/sh\necho first\n"
    change = {"InstanceId": instance, "UserData": {"Value": b"second"}}
    assert error_of(client.modify_instance_attribute, **change) == (400, "IncorrectInstanceState")
    client.stop_instances(InstanceIds=[instance])
    client.modify_instance_attribute(**change)
    client.start_instances(InstanceIds=[instance])
    assert Metadata(endpoint).get("user-data") == "second"
    shown = client.describe_instance_attribute(InstanceId=instance, Attribute="userData")["UserData"]["Value"]
    assert base64.b64decode(shown) == b"second"
    shown = client.describe_instance_attribute(InstanceId=instance, Attribute="groupSet")["Groups"]
    assert shown == described(region, instance)["SecurityGroups"]


def test_tags_are_described_in_pages(region: Region, machine):
    tags = [{"Key": f"k{number}", "Value": str(number)} for number in range(12)]
    instance, _ = machine(*(f"--tag={tag['Key']}={tag['Value']}" for tag in tags))
    filters = [{"Name": "resource-id", "Values": [instance]}, {"Name": "resource-type", "Values": ["instance"]}]
    pages = list(region.client("ec2").get_paginator("describe_tags").paginate(Filters=filters, MaxResults=5))
    assert [len(page["Tags"]) for page in pages] == [5, 5, 2]
    found = {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
    assert found == {tag["Key"]: tag["Value"] for tag in tags}
    filters.append({"Name": "tag:k3", "Values": ["?"]})
    [tag] = region.client("ec2").describe_tags(Filters=filters)["Tags"]
    assert (tag["Key"], tag["Value"]) == ("k3", "3")
