"""GuardDuty for operators: boto3 and the AWS CLI, every operation, and a machine's sign of life."""

from __future__ import annotations

import json
import time
import urllib.request

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from harness import Region, read_exports, run, tool, wait_until
from metadata import Metadata

SHELL = "Execution:Runtime/ReverseShell"
MODULE = "DefenseEvasion:Runtime/KernelModuleLoaded"


@pytest.fixture
def guardduty(fresh: Region):
    return fresh.client("guardduty")


@pytest.fixture
def detector(guardduty) -> str:
    return guardduty.create_detector(Enable=True)["DetectorId"]


def refused(call, **arguments) -> str:
    """The text of the refusal, which is of botocore's own class."""
    client = call.__self__
    with pytest.raises(client.exceptions.BadRequestException) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Message"]


def alive(region: Region, exports: dict[str, str]) -> int:
    """A machine's sign of life: an OTLP export without records; gives the status."""
    found = Metadata(exports["AWS_EC2_METADATA_SERVICE_ENDPOINT"]).identity()
    credentials = Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["Token"])
    headers = {"Content-Type": "application/x-protobuf"}
    request = AWSRequest("POST", f"{region.endpoint}/v1/logs", headers=headers, data=b"")
    SigV4Auth(credentials, "guardduty", region.name).add_auth(request)
    prepared = request.prepare()
    sent = urllib.request.Request(prepared.url, data=b"", headers=dict(prepared.headers), method="POST")
    with urllib.request.urlopen(sent, timeout=20) as answer:
        return answer.status


def test_an_account_has_one_detector(guardduty):
    assert guardduty.list_detectors()["DetectorIds"] == []
    feature = {
        "Name": "RUNTIME_MONITORING",
        "Status": "ENABLED",
        "AdditionalConfiguration": [{"Name": "EC2_AGENT_MANAGEMENT", "Status": "DISABLED"}],
    }
    made = guardduty.create_detector(
        Enable=True, FindingPublishingFrequency="ONE_HOUR", Features=[feature], Tags={"a": "b"}, ClientToken="once"
    )["DetectorId"]
    assert len(made) == 32
    assert guardduty.create_detector(Enable=True, ClientToken="once")["DetectorId"] == made
    assert guardduty.list_detectors()["DetectorIds"] == [made]
    text = refused(guardduty.create_detector, Enable=True)
    assert text == "The request is rejected because a detector already exists for the current account."
    shown = guardduty.get_detector(DetectorId=made)
    assert (shown["Status"], shown["FindingPublishingFrequency"], shown["Tags"]) == ("ENABLED", "ONE_HOUR", {"a": "b"})
    features = {one["Name"]: one for one in shown["Features"]}
    assert features["RUNTIME_MONITORING"]["AdditionalConfiguration"][0]["Name"] == "EC2_AGENT_MANAGEMENT"
    assert features["DNS_LOGS"]["Status"] == "DISABLED", "nothing is claimed that there is no data for"
    guardduty.update_detector(DetectorId=made, Enable=False, FindingPublishingFrequency="FIFTEEN_MINUTES")
    shown = guardduty.get_detector(DetectorId=made)
    assert (shown["Status"], shown["FindingPublishingFrequency"]) == ("DISABLED", "FIFTEEN_MINUTES")
    for feature in ["S3_DATA_EVENTS", "EKS_RUNTIME_MONITORING"]:
        features = [{"Name": feature, "Status": "ENABLED"}]
        assert "no data" in refused(guardduty.update_detector, DetectorId=made, Features=features)
    assert "no data" in refused(guardduty.update_detector, DetectorId=made, DataSources={"S3Logs": {"Enable": True}})
    guardduty.update_detector(DetectorId=made, Features=[{"Name": "S3_DATA_EVENTS", "Status": "DISABLED"}])
    guardduty.delete_detector(DetectorId=made)
    assert guardduty.list_detectors()["DetectorIds"] == []
    text = refused(guardduty.get_detector, DetectorId=made)
    assert text == "The request is rejected because the input detectorId is not owned by the current account."


def test_findings_are_listed_by_criteria_in_pages(guardduty, detector):
    guardduty.create_sample_findings(DetectorId=detector)
    pages = guardduty.get_paginator("list_findings")
    by_seven = pages.paginate(DetectorId=detector, PaginationConfig={"PageSize": 7})
    every = [one for page in by_seven for one in page["FindingIds"]]
    assert len(every) == len(set(every)) >= 46
    found = guardduty.get_findings(DetectorId=detector, FindingIds=every[:50])["Findings"]
    assert {one["Id"] for one in found} == set(every[:50])
    # There are more types than one answer has.
    found += guardduty.get_findings(DetectorId=detector, FindingIds=every[50:])["Findings"]
    one = next(one for one in found if one["Type"] == SHELL)
    assert one["Title"].startswith("[SAMPLE] ")
    assert json.loads(one["Service"]["AdditionalInfo"]["Value"]) == {"sample": True}
    assert one["Arn"].endswith(f":detector/{detector}/finding/{one['Id']}")

    def ids(**criterion) -> list[str]:
        criteria = {"Criterion": {name.replace("_", "."): condition for name, condition in criterion.items()}}
        return [
            one for page in pages.paginate(DetectorId=detector, FindingCriteria=criteria) for one in page["FindingIds"]
        ]

    assert ids(type={"Eq": [SHELL]}) == ids(type={"Equals": [SHELL]}) == [one["Id"]]
    assert set(ids(type={"Neq": [SHELL]})) == set(every) - {one["Id"]}
    assert set(ids(type={"Matches": ["*:Runtime/*"]})) == set(every) - set(ids(type={"NotMatches": ["*:Runtime/*"]}))
    assert ids(severity={"Gte": 5, "Lte": 5}) and not ids(severity={"Gt": 5}) and not ids(severity={"LessThan": 5})
    now = int(time.time() * 1000)
    assert len(ids(updatedAt={"GreaterThan": now - 600_000})) == len(every)
    assert not ids(updatedAt={"GreaterThanOrEqual": now + 600_000})
    ascending = guardduty.list_findings(
        DetectorId=detector, SortCriteria={"AttributeName": "type", "OrderBy": "ASC"}, MaxResults=50
    )["FindingIds"]
    kinds = {one["Id"]: one["Type"] for one in found}
    assert [kinds[one] for one in ascending if one in kinds] == sorted(kinds[one] for one in ascending if one in kinds)

    token = guardduty.list_findings(DetectorId=detector, MaxResults=1)["NextToken"]
    text = "The request is rejected because the parameter nextToken has an invalid value."
    other = {"Criterion": {"type": {"Eq": [SHELL]}}}
    assert refused(guardduty.list_findings, DetectorId=detector, NextToken=token, FindingCriteria=other) == text
    assert refused(guardduty.list_findings, DetectorId=detector, NextToken="x") == text
    misspelled = {"Criterion": {"typ": {"Eq": [SHELL]}}}
    text = "The request is rejected because the parameter findingCriteria has an invalid value."
    assert refused(guardduty.list_findings, DetectorId=detector, FindingCriteria=misspelled) == text
    refused(guardduty.create_sample_findings, DetectorId=detector, FindingTypes=["Nothing:Runtime/OfTheKind"])


def test_findings_are_archived_judged_and_counted(guardduty, detector):
    for _ in range(2):
        guardduty.create_sample_findings(DetectorId=detector, FindingTypes=[SHELL, MODULE])
    ids = guardduty.list_findings(DetectorId=detector)["FindingIds"]
    assert len(ids) == 2, "the same thing again is counted"
    found = guardduty.get_findings(DetectorId=detector, FindingIds=ids)["Findings"]
    assert [one["Service"]["Count"] for one in found] == [2, 2]
    guardduty.archive_findings(DetectorId=detector, FindingIds=ids[:1])
    guardduty.update_findings_feedback(DetectorId=detector, FindingIds=ids, Feedback="NOT_USEFUL", Comments="of a test")
    shown = guardduty.get_findings(DetectorId=detector, FindingIds=ids)["Findings"]
    assert [one["Service"]["Archived"] for one in shown] == [True, False]
    assert {one["Service"]["UserFeedback"] for one in shown} == {"NOT_USEFUL"}
    archived = {"Criterion": {"service.archived": {"Eq": ["true"]}}}
    assert guardduty.list_findings(DetectorId=detector, FindingCriteria=archived)["FindingIds"] == ids[:1]
    guardduty.unarchive_findings(DetectorId=detector, FindingIds=ids[:1])
    assert guardduty.list_findings(DetectorId=detector, FindingCriteria=archived)["FindingIds"] == []
    absent = refused(guardduty.archive_findings, DetectorId=detector, FindingIds=[ids[0], "nobody"])
    assert absent == "The request is rejected since no such resource found."
    count = guardduty.get_findings_statistics(DetectorId=detector, FindingStatisticTypes=["COUNT_BY_SEVERITY"])
    assert count["FindingStatistics"]["CountBySeverity"] == {"5.0": 2}
    expected = {"ACCOUNT": 1, "DATE": 1, "FINDING_TYPE": 2, "RESOURCE": 1, "SEVERITY": 1}
    for by, groups in expected.items():
        answer = guardduty.get_findings_statistics(DetectorId=detector, GroupBy=by)["FindingStatistics"]
        ((_, grouped),) = answer.items()
        assert len(grouped) == groups, by
        assert sum(one["TotalFindings"] for one in grouped) == 2, by
    refused(guardduty.get_findings_statistics, DetectorId=detector)


def test_filters(guardduty, detector):
    criteria = {"Criterion": {"type": {"Eq": [SHELL]}}}
    call = {"DetectorId": detector, "Name": "quiet", "Action": "ARCHIVE", "FindingCriteria": criteria}
    assert guardduty.create_filter(**call, Description="what is known", Rank=1, Tags={"a": "b"})["Name"] == "quiet"
    assert "already exists" in refused(guardduty.create_filter, **call)
    guardduty.create_sample_findings(DetectorId=detector, FindingTypes=[SHELL, MODULE])
    ids = guardduty.list_findings(DetectorId=detector)["FindingIds"]
    found = guardduty.get_findings(DetectorId=detector, FindingIds=ids)["Findings"]
    assert {one["Type"]: one["Service"]["Archived"] for one in found} == {SHELL: True, MODULE: False}
    guardduty.update_filter(DetectorId=detector, FilterName="quiet", Action="NOOP", Description="louder")
    shown = guardduty.get_filter(DetectorId=detector, FilterName="quiet")
    assert (shown["Action"], shown["Description"], shown["Version"], shown["Tags"]) == ("NOOP", "louder", 2, {"a": "b"})
    assert shown["FindingCriteria"] == criteria
    for number in range(3):
        guardduty.create_filter(DetectorId=detector, Name=f"more-{number}", FindingCriteria=criteria)
    pages = guardduty.get_paginator("list_filters").paginate(DetectorId=detector, PaginationConfig={"PageSize": 3})
    assert [one for page in pages for one in page["FilterNames"]] == ["more-0", "more-1", "more-2", "quiet"]
    # An ARCHIVE of everything would hide everything.
    everything = {**call, "Name": "everything", "FindingCriteria": {"Criterion": {}}}
    text = "The request is rejected because the parameter findingCriteria has an invalid value."
    assert refused(guardduty.create_filter, **everything) == text
    guardduty.delete_filter(DetectorId=detector, FilterName="quiet")
    for absent in [guardduty.get_filter, guardduty.delete_filter, guardduty.update_filter]:
        text = refused(absent, DetectorId=detector, FilterName="quiet")
        assert text == "The request is rejected since no such resource found."


@pytest.mark.parametrize("kind", ["ip_set", "threat_intel_set"])
def test_sets_of_addresses(fresh: Region, guardduty, detector, kind):
    words = {"ip_set": ("IpSetId", "list_ip_sets"), "threat_intel_set": ("ThreatIntelSetId", "list_threat_intel_sets")}
    name, lists = words[kind]
    verbs = ["create", "get", "update", "delete"]
    create, get, update, delete = (getattr(guardduty, f"{verb}_{kind}") for verb in verbs)
    call = {"DetectorId": detector, "Name": "ours", "Format": "TXT", "Activate": True}
    elsewhere = ["https://s3.amazonaws.com/b/list.txt", "s3://bucket/list.txt", "/etc/passwd", "file:../ready.json"]
    for location in elsewhere:
        assert "the parameter location has an invalid value" in refused(create, **call, Location=location)
    refused(create, **call, Location="file:absent.txt")
    refused(create, **{**call, "Format": "STIX"}, Location="file:list.txt")
    directory = fresh.data / "lists"
    directory.mkdir(exist_ok=True)
    (directory / "list.txt").write_text("# ours\n192.0.2.0/24\n")
    made = create(**call, Location="file:list.txt", Tags={"a": "b"})[name]
    own = {"DetectorId": detector, name: made}
    assert get(**own)["Status"] == "ACTIVE"
    pages = guardduty.get_paginator(lists).paginate(DetectorId=detector)
    assert [one for page in pages for one in page[f"{name}s"]] == [made]
    update(**own, Activate=False, Name="other")
    shown = get(**own)
    assert (shown["Status"], shown["Name"], shown["Tags"]) == ("INACTIVE", "other", {"a": "b"})
    delete(**own)
    for absent in [get, delete, update]:
        assert refused(absent, **own) == "The request is rejected since no such resource found."


def test_tags(fresh: Region, guardduty, detector):
    criteria = {"Criterion": {"type": {"Eq": [SHELL]}}}
    guardduty.create_filter(DetectorId=detector, Name="quiet", FindingCriteria=criteria)
    front = f"arn:aws:guardduty:{fresh.name}:{fresh.account}:detector/{detector}"
    for arn in [front, f"{front}/filter/quiet"]:
        guardduty.tag_resource(ResourceArn=arn, Tags={"a": "b", "c:d/e": "f"})
        assert guardduty.list_tags_for_resource(ResourceArn=arn)["Tags"] == {"a": "b", "c:d/e": "f"}
        guardduty.untag_resource(ResourceArn=arn, TagKeys=["a", "c:d/e"])
        assert guardduty.list_tags_for_resource(ResourceArn=arn).get("Tags", {}) == {}
    refused(guardduty.tag_resource, ResourceArn=f"{front}/filter/nobody", Tags={"a": "b"})


def test_coverage_is_told_from_signs_of_life(fresh: Region, guardduty):
    machines = [read_exports(fresh.cli("launch", "--export").stdout) for _ in range(2)]
    ids = [machine["INSTANCE_ID"] for machine in machines]
    if alive(fresh, machines[0]) != 200:
        pytest.fail("the sign of life was not taken")
    # The first telemetry makes the detector.
    (detector,) = wait_until(lambda: guardduty.list_detectors()["DetectorIds"], "a detector")
    pages = guardduty.get_paginator("list_coverage").paginate(DetectorId=detector, PaginationConfig={"PageSize": 1})
    shown = {one["ResourceId"]: one for page in pages for one in page["Resources"]}
    assert {one: (shown[one]["CoverageStatus"], shown[one].get("Issue")) for one in ids} == {
        ids[0]: ("HEALTHY", None),
        ids[1]: ("UNHEALTHY", "No Agent Reporting"),
    }
    details = shown[ids[0]]["ResourceDetails"]["Ec2InstanceDetails"]
    assert (details["InstanceId"], details["ManagementType"]) == (ids[0], "MANUAL")

    def criterion(key: str, **condition) -> dict:
        return {"FilterCriterion": [{"CriterionKey": key, "FilterCondition": condition}]}

    def listed(**more) -> list[str]:
        return [one["ResourceId"] for one in guardduty.list_coverage(DetectorId=detector, **more)["Resources"]]

    assert listed(FilterCriteria=criterion("COVERAGE_STATUS", Equals=["HEALTHY"])) == ids[:1]
    assert listed(FilterCriteria=criterion("INSTANCE_ID", NotEquals=ids[:1])) == ids[1:]
    assert listed(FilterCriteria=criterion("EKS_CLUSTER_NAME", Equals=["x"])) == []
    sort = {"AttributeName": "INSTANCE_ID", "OrderBy": "DESC"}
    assert listed(SortCriteria=sort) == sorted(ids, reverse=True)
    refused(guardduty.list_coverage, DetectorId=detector, SortCriteria={"AttributeName": "ISSUE", "OrderBy": "ASC"})
    count = guardduty.get_coverage_statistics(
        DetectorId=detector, StatisticsType=["COUNT_BY_RESOURCE_TYPE", "COUNT_BY_COVERAGE_STATUS"]
    )["CoverageStatistics"]
    assert count == {"CountByResourceType": {"EC2": 2}, "CountByCoverageStatus": {"HEALTHY": 1, "UNHEALTHY": 1}}
    table = fresh.cli("coverage").stdout
    assert ids[0] in table and "HEALTHY" in table
    # Nobody asked for the detector: whoever asks first takes it over.
    assert guardduty.create_detector(Enable=True)["DetectorId"] == detector
    guardduty.delete_detector(DetectorId=detector)
    alive(fresh, machines[1])
    time.sleep(1)
    assert guardduty.list_detectors()["DetectorIds"] == [], "what was deleted does not come back by itself"


def test_what_was_set_up_and_found_outlives_a_restart(fresh: Region, guardduty, detector):
    criteria = {"Criterion": {"type": {"Eq": [SHELL]}}}
    guardduty.create_filter(DetectorId=detector, Name="quiet", FindingCriteria=criteria)
    guardduty.create_sample_findings(DetectorId=detector, FindingTypes=[SHELL])
    before = guardduty.list_findings(DetectorId=detector)["FindingIds"]
    fresh.kill()
    fresh.start()
    after = fresh.client("guardduty")
    assert after.list_detectors()["DetectorIds"] == [detector]
    assert after.list_filters(DetectorId=detector)["FilterNames"] == ["quiet"]
    assert after.list_findings(DetectorId=detector)["FindingIds"] == before


def test_machines_may_not_ask(fresh: Region):
    exports = read_exports(fresh.cli("launch", "--export").stdout)
    machine = fresh.client("guardduty", Metadata(exports["AWS_EC2_METADATA_SERVICE_ENDPOINT"]).identity())
    with pytest.raises(ClientError) as caught:
        machine.list_detectors()
    assert caught.value.response["Error"]["Code"] == "UnrecognizedClientException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_the_aws_command_line(fresh: Region, place):
    env = {**fresh.env, **fresh.operator()}

    def aws(*argv: str) -> dict:
        text = run([tool("aws"), "guardduty", *argv, "--output", "json"], env, check=True, timeout=120).stdout
        return json.loads(text) if text.strip() else {}

    made = aws("create-detector", "--enable", "--features", '[{"Name":"RUNTIME_MONITORING","Status":"ENABLED"}]')
    assert aws("list-detectors")["DetectorIds"] == [made["DetectorId"]]
    aws("create-sample-findings", "--detector-id", made["DetectorId"], "--finding-types", SHELL)
    (found,) = aws("list-findings", "--detector-id", made["DetectorId"])["FindingIds"]
    shown = aws("get-findings", "--detector-id", made["DetectorId"], "--finding-ids", found)["Findings"]
    assert shown[0]["Type"] == SHELL


def test_the_command_line_shows_findings(fresh: Region, guardduty, detector):
    assert fresh.cli("findings").stdout == "no findings\n"
    guardduty.create_sample_findings(DetectorId=detector, FindingTypes=[SHELL, MODULE])
    (heading, *rows) = fresh.cli("findings").stdout.splitlines()
    assert heading.split()[0] == "FINDING" and len(rows) == 2
    (row,) = fresh.cli("findings", "--type", "*ReverseShell").stdout.splitlines()[1:]
    assert row.endswith(SHELL)
    short = row.split()[0]
    assert json.loads(fresh.cli("findings", "show", short).stdout)["type"] == SHELL
    fresh.cli("findings", "archive", short)
    assert SHELL not in fresh.cli("findings").stdout
    assert f"{SHELL} (archived)" in fresh.cli("findings", "--archived").stdout
    assert fresh.cli("findings", "--severity", "high").stdout == "no findings\n"
    assert len(json.loads(fresh.cli("findings", "--since", "1h", "--output", "json").stdout)) == 1
    assert fresh.cli("findings", "show", "nobody", check=False).returncode == 1
