"""Two accounts in one region, as boto3 sees them: what is one's, the other neither sees nor changes."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from harness import Region, binary, boto_client, read_exports, run
from metadata import Metadata

OTHER = "210987654321"


def refusal(call) -> str:
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.response["Error"]["Code"]


def cli_as(region: Region, file: Path, *argv: str) -> str:
    """What a command of inborn's prints, signed with the key in the file."""
    return run([binary(), *argv], {**region.env, "INBORN_OPERATOR": str(file)}, check=True).stdout


def other_operator(region: Region, directory: Path) -> tuple[Path, dict[str, str]]:
    """An account, and an operator of it with its key in a file."""
    region.cli("account", "create", OTHER, "--name", "research", "--default", "HttpPutResponseHopLimit=3")
    file = directory / "research.env"
    region.cli("operator", "create", "admin", "--account", OTHER, "--file", str(file))
    return file, read_exports(file.read_text())


def test_two_accounts_see_nothing_of_each_other(fresh: Region, tmp_path: Path):
    region = fresh
    file, keys = other_operator(region, tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def other(service: str):
        return boto_client(service, region.endpoint, region.name, keys)

    told = other("sts").get_caller_identity()
    assert (told["Account"], told["Arn"]) == (OTHER, f"arn:aws:iam::{OTHER}:user/admin")

    own_ec2, ec2 = region.client("ec2"), other("ec2")
    (mine,) = own_ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1, ClientToken="once")["Instances"]
    (theirs,) = ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1, ClientToken="once")["Instances"]
    assert mine["InstanceId"] != theirs["InstanceId"]
    assert mine["VpcId"] != theirs["VpcId"]
    hops = [machine["MetadataOptions"]["HttpPutResponseHopLimit"] for machine in (mine, theirs)]
    assert hops == [hops[0], 3] and hops[0] != 3
    for client, instance, owner in [(own_ec2, mine, "123456789012"), (ec2, theirs, OTHER)]:
        reservations = client.describe_instances()["Reservations"]
        assert [r["OwnerId"] for r in reservations] == [owner]
        assert [i["InstanceId"] for r in reservations for i in r["Instances"]] == [instance["InstanceId"]]
    named = {"InstanceIds": [mine["InstanceId"]]}
    for call in (ec2.describe_instances, ec2.terminate_instances, ec2.stop_instances, ec2.reboot_instances):
        assert refusal(lambda call=call: call(**named)) == "InvalidInstanceID.NotFound"

    own_ec2.create_key_pair(KeyName="key", KeyType="ed25519")
    assert ec2.describe_key_pairs()["KeyPairs"] == []
    ec2.create_key_pair(KeyName="key", KeyType="ed25519")

    content = json.dumps(
        {
            "schemaVersion": "2.2",
            "mainSteps": [{"action": "aws:runShellScript", "name": "one", "inputs": {"runCommand": ["true"]}}],
        }
    )
    region.client("ssm").create_document(Name="a-document", Content=content, DocumentType="Command")
    ssm = other("ssm")
    assert refusal(lambda: ssm.get_document(Name="a-document")) == "InvalidDocument"
    assert {d["Owner"] for d in ssm.list_documents()["DocumentIdentifiers"]} == {"Amazon"}
    ssm.create_document(Name="a-document", Content=content, DocumentType="Command")

    detector = region.client("guardduty").create_detector(Enable=True)["DetectorId"]
    guardduty = other("guardduty")
    assert guardduty.list_detectors()["DetectorIds"] == []
    assert refusal(lambda: guardduty.list_findings(DetectorId=detector)) == "BadRequestException"

    # Inborn's own commands, with the other key.
    listed = json.loads(cli_as(region, file, "ps", "--output", "json"))
    assert [machine["instance_id"] for machine in listed] == [theirs["InstanceId"]]
    lines = [line for line in region.audit() if line["eventName"] == "RunInstances"]
    assert [line["recipientAccountId"] for line in lines] == ["123456789012", OTHER]


def test_a_machine_is_of_the_account_that_launched_it(fresh: Region, tmp_path: Path):
    file, _ = other_operator(fresh, tmp_path)
    machine = read_exports(cli_as(fresh, file, "launch", "--export"))
    metadata = Metadata(machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"])
    document = json.loads(metadata.get("dynamic/instance-identity/document"))
    assert document["accountId"] == OTHER
    assert json.loads(metadata.get("meta-data/identity-credentials/ec2/info"))["AccountId"] == OTHER
    told = boto_client("sts", fresh.endpoint, fresh.name, metadata.identity()).get_caller_identity()
    assert told["Arn"] == f"arn:aws:sts::{OTHER}:assumed-role/aws:ec2-instance/{machine['INSTANCE_ID']}"


def test_a_key_ends_and_an_account_closes(fresh: Region, tmp_path: Path):
    file, keys = other_operator(fresh, tmp_path)
    sts = boto_client("sts", fresh.endpoint, fresh.name, keys)
    sts.get_caller_identity()
    (listed,) = json.loads(fresh.cli("operator", "list", "--account", OTHER, "--output", "json").stdout)
    assert (listed["name"], listed["state"]) == ("admin", "enabled")
    key = listed["access_key_id"]
    fresh.cli("operator", "disable", key)
    assert refusal(sts.get_caller_identity) == "InvalidClientTokenId"
    fresh.cli("operator", "enable", key)
    ec2 = boto_client("ec2", fresh.endpoint, fresh.name, keys)
    (machine,) = ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1)["Instances"]
    refused = fresh.cli("account", "close", OTHER, check=False)
    assert refused.returncode != 0 and "terminate" in refused.stderr
    ec2.terminate_instances(InstanceIds=[machine["InstanceId"]])
    fresh.cli("account", "close", OTHER)
    assert refusal(sts.get_caller_identity) == "InvalidClientTokenId"
    # Over a restart too.
    fresh.stop()
    fresh.start()
    assert refusal(boto_client("sts", fresh.endpoint, fresh.name, keys).get_caller_identity) == "InvalidClientTokenId"
    closed = [a for a in json.loads(fresh.cli("account", "list", "--output", "json").stdout) if a["state"] == "closed"]
    assert [a["account_id"] for a in closed] == [OTHER]
    # Nothing is written over a file that is there.
    again = fresh.cli("operator", "create", "late", "--file", str(file), check=False)
    assert again.returncode != 0 and "not there yet" in again.stderr
