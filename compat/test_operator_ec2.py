"""The operator's half: EC2 operations by boto3 and by the AWS CLI, which are clients of Inborn like any other."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator

import pytest
from botocore.exceptions import ClientError

from harness import INSTANCE_ID, Region, read_exports, run, tool
from metadata import Metadata

IMAGE = {"ImageId": "ami-0123456789abcdef0"}
ABSENT = "i-0123456789abcdef0"


@pytest.fixture
def launch(region: Region) -> Iterator[Callable[..., list[dict]]]:
    """`launch(count, …)` runs instances and returns them; they are terminated afterwards."""
    client = region.client("ec2")
    started: list[str] = []

    def call(count: int = 1, **parameters) -> list[dict]:
        answer = client.run_instances(**IMAGE, MinCount=count, MaxCount=count, **parameters)
        started.extend(instance["InstanceId"] for instance in answer["Instances"])
        return answer["Instances"]

    yield call
    if started:
        client.terminate_instances(InstanceIds=started)


def error_of(call, **parameters) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    answer = caught.value.response
    assert answer["ResponseMetadata"]["RequestId"]
    assert answer["Error"]["Message"]
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def found_by(client, *filters: tuple[str, list[str]], **more) -> set[str]:
    given = [{"Name": name, "Values": values} for name, values in filters]
    pages = client.get_paginator("describe_instances").paginate(Filters=given, **more)
    return {instance["InstanceId"] for page in pages for r in page["Reservations"] for instance in r["Instances"]}


def tags(**pairs: str) -> list[dict]:
    return [{"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in pairs.items()]}]


def test_count_gives_that_many_machines(launch):
    instances = launch(3)
    assert len({instance["InstanceId"] for instance in instances}) == 3
    assert all(INSTANCE_ID.match(instance["InstanceId"]) for instance in instances)
    assert all(instance["State"]["Name"] in {"pending", "running"} for instance in instances)
    assert [instance["AmiLaunchIndex"] for instance in instances] == [0, 1, 2]


def test_a_count_must_make_sense(region: Region):
    client = region.client("ec2")
    for least, most in ((2, 1), (0, 0), (0, 1)):
        status, code = error_of(client.run_instances, **IMAGE, MinCount=least, MaxCount=most)
        assert (status, code) == (400, "InvalidParameterValue"), (least, most)


def test_tags_and_metadata_options_are_there_from_the_first_moment(region: Region, launch):
    options = {"HttpTokens": "required", "HttpPutResponseHopLimit": 3, "InstanceMetadataTags": "enabled"}
    [instance] = launch(TagSpecifications=tags(Name="db-1", role="db"), MetadataOptions=options)
    answer = region.client("ec2").describe_instances(InstanceIds=[instance["InstanceId"]])
    [described] = answer["Reservations"][0]["Instances"]
    assert {tag["Key"]: tag["Value"] for tag in described["Tags"]} == {"Name": "db-1", "role": "db"}
    assert described["MetadataOptions"].items() >= {**options, "HttpEndpoint": "enabled"}.items()
    assert described["Placement"]["AvailabilityZone"].startswith(region.name)
    assert answer["Reservations"][0]["OwnerId"] == region.account


def test_a_client_token_launches_once(region: Region):
    client = region.client("ec2")
    token = str(uuid.uuid4())
    parameters = {**IMAGE, "MinCount": 1, "MaxCount": 2, "ClientToken": token}
    first, second = client.run_instances(**parameters), client.run_instances(**parameters)
    assert first["ReservationId"] == second["ReservationId"]
    ids = [instance["InstanceId"] for instance in first["Instances"]]
    assert ids == [instance["InstanceId"] for instance in second["Instances"]]
    assert len(ids) == 2
    changed = {**parameters, "MaxCount": 3}
    assert error_of(client.run_instances, **changed) == (400, "IdempotentParameterMismatch")
    client.terminate_instances(InstanceIds=ids)


def test_filters(region: Region, launch):
    client = region.client("ec2")
    mark = uuid.uuid4().hex
    web = {i["InstanceId"] for i in launch(2, TagSpecifications=tags(role="web", mark=mark))}
    db = {i["InstanceId"] for i in launch(1, TagSpecifications=tags(role="db", mark=mark))}
    ours = ("tag:mark", [mark])
    assert found_by(client, ours) == web | db
    assert found_by(client, ours, ("tag:role", ["web"])) == web
    assert found_by(client, ours, ("tag:role", ["web", "db"])) == web | db
    assert found_by(client, ours, ("tag:role", ["w*"])) == web
    assert found_by(client, ours, ("tag-key", ["role"])) == web | db
    assert found_by(client, ours, ("instance-id", sorted(db))) == db
    assert found_by(client, ours, ("instance-state-name", ["running", "pending"])) == web | db
    assert found_by(client, ours, ("instance-state-name", ["terminated"])) == set()
    assert found_by(client, ours, ("tag:role", ["nothing"])) == set()


def test_an_unknown_filter_is_refused_not_ignored(region: Region):
    client = region.client("ec2")
    given = [{"Name": "no-such-filter", "Values": ["x"]}]
    assert error_of(client.describe_instances, Filters=given) == (400, "InvalidParameterValue")


def test_paging_gives_everything_once(region: Region, launch):
    client = region.client("ec2")
    mark = uuid.uuid4().hex
    everything = [i["InstanceId"] for i in launch(13, TagSpecifications=tags(mark=mark))]
    given = [{"Name": "tag:mark", "Values": [mark]}]
    pages, token = [], None
    while True:
        more = {"NextToken": token} if token else {}
        answer = client.describe_instances(Filters=given, MaxResults=5, **more)
        pages.append([i["InstanceId"] for r in answer["Reservations"] for i in r["Instances"]])
        token = answer.get("NextToken")
        if not token:
            break
        assert len(pages) < 20, "paging does not end"
    seen = [instance for page in pages for instance in page]
    assert sorted(seen) == sorted(everything)
    assert all(len(page) <= 5 for page in pages)
    assert error_of(client.describe_instances, MaxResults=5, NextToken="not-a-token")[0] == 400
    assert error_of(client.describe_instances, MaxResults=4)[0] == 400


@pytest.mark.parametrize("operation", ["describe", "terminate", "stop", "start", "reboot"])
def test_ids_that_name_no_instance(region: Region, operation: str):
    call = getattr(region.client("ec2"), f"{operation}_instances")
    assert error_of(call, InstanceIds=[ABSENT]) == (400, "InvalidInstanceID.NotFound")
    for bad in ("i-123", "i-0123456789ABCDEF0", "web-1", "i-0123456789abcdefg"):
        assert error_of(call, InstanceIds=[bad]) == (400, "InvalidInstanceID.Malformed"), bad


def test_one_bad_id_changes_nothing(region: Region, launch):
    [instance] = launch()
    client = region.client("ec2")
    ids = [instance["InstanceId"], ABSENT]
    assert error_of(client.terminate_instances, InstanceIds=ids)[1] == "InvalidInstanceID.NotFound"
    assert region.state_of(instance["InstanceId"]) == "running"


def test_create_tags_adds_and_replaces(region: Region, launch):
    client = region.client("ec2")
    [instance] = launch(TagSpecifications=tags(role="web", kept="yes"))
    ids = [instance["InstanceId"]]
    client.create_tags(Resources=ids, Tags=[{"Key": "role", "Value": "db"}, {"Key": "empty", "Value": ""}])
    described = client.describe_instances(InstanceIds=ids)["Reservations"][0]["Instances"][0]
    assert {tag["Key"]: tag["Value"] for tag in described["Tags"]} == {"role": "db", "kept": "yes", "empty": ""}
    assert error_of(client.create_tags, Resources=[ABSENT], Tags=[{"Key": "a", "Value": "b"}])[0] == 400
    assert error_of(client.create_tags, Resources=ids, Tags=[{"Key": "k" * 129, "Value": ""}])[0] == 400


def test_metadata_options_act_at_once(region: Region):
    machine = read_exports(region.cli("launch", "--export").stdout)
    client, instance = region.client("ec2"), machine["INSTANCE_ID"]
    endpoint = machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
    path = "/latest/meta-data/instance-id"
    answer = client.modify_instance_metadata_options(InstanceId=instance, HttpTokens="optional")
    assert answer["InstanceMetadataOptions"]["HttpTokens"] == "optional"
    assert Metadata(endpoint, version=1).request("GET", path)[0] == 200
    client.modify_instance_metadata_options(InstanceId=instance, HttpEndpoint="disabled")
    assert Metadata(endpoint, version=1).request("GET", path)[0] == 403
    client.modify_instance_metadata_options(InstanceId=instance, HttpEndpoint="enabled", HttpTokens="required")
    assert Metadata(endpoint, version=1).request("GET", path)[0] == 401
    for limit, good in ((0, False), (1, True), (64, True), (65, False)):
        parameters = {"InstanceId": instance, "HttpEndpoint": "enabled", "HttpPutResponseHopLimit": limit}
        if good:
            client.modify_instance_metadata_options(**parameters)
        else:
            assert error_of(client.modify_instance_metadata_options, **parameters)[0] == 400, limit
    client.terminate_instances(InstanceIds=[instance])


def test_stop_start_reboot_give_new_credentials(region: Region):
    machine = read_exports(region.cli("launch", "--export").stdout)
    client, instance = region.client("ec2"), machine["INSTANCE_ID"]
    endpoint = machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
    seen = [Metadata(endpoint).identity()["AccessKeyId"]]
    client.reboot_instances(InstanceIds=[instance])
    seen.append(Metadata(endpoint).identity()["AccessKeyId"])
    client.stop_instances(InstanceIds=[instance])
    assert region.state_of(instance) == "stopped"
    client.start_instances(InstanceIds=[instance])
    assert region.state_of(instance) == "running"
    credentials = Metadata(endpoint).identity()
    seen.append(credentials["AccessKeyId"])
    assert len(set(seen)) == 3, seen
    arn = region.client("sts", credentials).get_caller_identity()["Arn"]
    assert arn.endswith(f"/{instance}")
    client.terminate_instances(InstanceIds=[instance])


def test_terminate_is_final(region: Region, launch):
    [instance] = launch()
    client, ids = region.client("ec2"), [instance["InstanceId"]]
    [change] = client.terminate_instances(InstanceIds=ids)["TerminatingInstances"]
    assert change["CurrentState"]["Name"] in {"shutting-down", "terminated"}
    assert change["PreviousState"]["Name"] == "running"
    client.terminate_instances(InstanceIds=ids)
    assert error_of(client.start_instances, InstanceIds=ids) == (400, "IncorrectInstanceState")
    assert error_of(client.stop_instances, InstanceIds=ids) == (400, "IncorrectInstanceState")


def test_an_unknown_action_is_refused(region: Region):
    assert error_of(region.client("ec2").describe_volumes) == (400, "InvalidAction")


def test_the_wrong_secret_and_the_wrong_key(region: Region):
    good = region.operator()
    wrong = {**good, "AWS_SECRET_ACCESS_KEY": good["AWS_SECRET_ACCESS_KEY"][::-1]}
    assert error_of(region.client("ec2", wrong).describe_instances) == (401, "AuthFailure")
    assert error_of(region.client("sts", wrong).get_caller_identity) == (403, "SignatureDoesNotMatch")
    unknown = {**good, "AWS_ACCESS_KEY_ID": "AKIAQQQQQQQQQQQQQQQQ"}
    assert error_of(region.client("ec2", unknown).describe_instances) == (401, "AuthFailure")
    assert error_of(region.client("sts", unknown).get_caller_identity) == (403, "InvalidClientTokenId")


def test_the_operator_is_an_identity_too(region: Region):
    identity = region.client("sts").get_caller_identity()
    assert identity["Account"] == region.account
    assert identity["Arn"].startswith(f"arn:aws:iam::{region.account}:")


def test_the_aws_cli_does_the_round(region: Region):
    # As a person would: `. operator.env`, then aws.
    script = f'set -eu; . "{region.ready["operator_env"]}"; exec "$@"'
    env = {**region.env, "AWS_ENDPOINT_URL": region.endpoint, "AWS_REGION": region.name, "AWS_PAGER": ""}

    def aws(*argv: str) -> dict:
        shell = ["/bin/sh", "-c", script, "sh", tool("aws"), *argv, "--output", "json"]
        return json.loads(run(shell, env, check=True).stdout or "null")

    spec = "ResourceType=instance,Tags=[{Key=Name,Value=cli-1}]"
    tokens = ["--metadata-options", "HttpTokens=required"]
    started = aws(
        "ec2", "run-instances", "--image-id", IMAGE["ImageId"], "--count", "1", "--tag-specifications", spec, *tokens
    )
    instance = started["Instances"][0]["InstanceId"]
    described = aws("ec2", "describe-instances", "--instance-ids", instance)["Reservations"][0]["Instances"][0]
    assert described["MetadataOptions"]["HttpTokens"] == "required"
    aws("ec2", "create-tags", "--resources", instance, "--tags", "Key=role,Value=cli")
    options = ["--http-tokens", "optional", "--http-put-response-hop-limit", "2"]
    changed = aws("ec2", "modify-instance-metadata-options", "--instance-id", instance, *options)
    assert changed["InstanceMetadataOptions"]["HttpPutResponseHopLimit"] == 2
    ended = aws("ec2", "terminate-instances", "--instance-ids", instance)
    assert ended["TerminatingInstances"][0]["InstanceId"] == instance
