"""A signature in the query: whoever holds the URL may ask STS who signed it, for 15 minutes."""

from __future__ import annotations

import datetime
import http.client
import json
import urllib.parse
from collections.abc import Iterator

import boto3
import botocore.auth
import pytest
from botocore.signers import RequestSigner

from clients import GO_V1, GO_V2, JS, Client, require
from harness import ONCE, Region, boto_client, clean_env, last_json, read_exports, run, scratch
from metadata import Metadata


@pytest.fixture(scope="module")
def machine(region: Region) -> Iterator[dict[str, str]]:
    """The exports of a machine and its identity credentials."""
    exports = read_exports(region.cli("launch", "--export").stdout)
    credentials = Metadata(exports["AWS_EC2_METADATA_SERVICE_ENDPOINT"]).identity()
    yield {**exports, **credentials}
    region.cli("terminate", exports["INSTANCE_ID"])


def send(method: str, url: str, headers: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Status, content type and body; the request has no body and nothing else that the signer did not see."""
    where = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=5)
    connection.request(method, f"{where.path or '/'}?{where.query}", headers=headers or {})
    answer = connection.getresponse()
    return answer.status, answer.getheader("Content-Type"), answer.read().decode()


def boto_url(machine: dict[str, str], **more) -> str:
    sts = boto_client("sts", machine["AWS_ENDPOINT_URL"], machine["AWS_REGION"], machine, config=ONCE)
    return sts.generate_presigned_url("get_caller_identity", **more)


def eks_url(machine: dict[str, str], cluster: str) -> str:
    """As `aws eks get-token` signs it: GET, the cluster's name in a signed header, one minute."""
    session = boto3.session.Session(
        machine["AccessKeyId"], machine["SecretAccessKey"], machine["Token"], region_name=machine["AWS_REGION"]
    )
    service = session.client("sts").meta.service_model.service_id
    signer = RequestSigner(service, machine["AWS_REGION"], "sts", "v4", session.get_credentials(), session.events)
    request = {
        "method": "GET",
        "url": f"{machine['AWS_ENDPOINT_URL']}/?Action=GetCallerIdentity&Version=2011-06-15",
        "body": {},
        "headers": {"x-k8s-aws-id": cluster},
        "context": {},
    }
    return signer.generate_presigned_url(request, region_name=machine["AWS_REGION"], expires_in=60, operation_name="")


def arn(machine: dict[str, str]) -> str:
    return f":assumed-role/aws:ec2-instance/{machine['INSTANCE_ID']}</Arn>"


def test_boto3_signs_a_post_without_a_body(machine: dict[str, str]):
    url = boto_url(machine)
    status, kind, body = send("POST", url)
    assert (status, kind) == (200, "text/xml")
    assert arn(machine) in body
    status, _, body = send("GET", url)
    assert status == 403
    assert "<Code>SignatureDoesNotMatch</Code>" in body, "the method is signed"


def test_boto3_signs_a_get_where_asked_to(machine: dict[str, str]):
    status, _, body = send("GET", boto_url(machine, HttpMethod="GET"))
    assert status == 200
    assert arn(machine) in body


@pytest.mark.parametrize("seconds", [1, 604800])
def test_expires_neither_shortens_nor_matters(machine: dict[str, str], seconds: int):
    assert send("GET", boto_url(machine, HttpMethod="GET", ExpiresIn=seconds))[0] == 200


def test_the_eks_form_proves_the_instance_to_one_cluster(machine: dict[str, str]):
    url = eks_url(machine, "cluster-1")
    assert "x-k8s-aws-id" in urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)["X-Amz-SignedHeaders"][0]
    headers = {"x-k8s-aws-id": "cluster-1", "accept": "application/json"}
    status, kind, body = send("GET", url, headers)
    assert (status, kind) == (200, "application/json")
    identity = json.loads(body)["GetCallerIdentityResponse"]["GetCallerIdentityResult"]
    assert identity["Arn"].endswith(f":assumed-role/aws:ec2-instance/{machine['INSTANCE_ID']}")
    assert send("GET", url, {**headers, "x-k8s-aws-id": "cluster-2"})[0] == 403
    assert send("GET", url, {"accept": "application/json"})[0] == 403


@pytest.mark.parametrize(("minutes", "status"), [(2, 200), (14, 200), (16, 403), (-14, 200), (-16, 403)])
def test_the_eks_form_is_good_for_fifteen_minutes(
    machine: dict[str, str], monkeypatch: pytest.MonkeyPatch, minutes: int, status: int
):
    """`X-Amz-Expires=60` notwithstanding. The signer lives in the past (or future): nobody waits for a test."""
    moment = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=minutes)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda remove_tzinfo=True: moment.replace(tzinfo=None))
    url = eks_url(machine, "cluster-1")
    assert moment.strftime("X-Amz-Date=%Y%m%dT%H%M%SZ") in url
    answer = send("GET", url, {"x-k8s-aws-id": "cluster-1"})
    assert answer[0] == status, answer
    if status != 200:
        assert "<Code>SignatureDoesNotMatch</Code>" in answer[2]
        assert ("Signature expired" if minutes > 0 else "Signature not yet current") in answer[2]


@pytest.mark.parametrize("client", [JS, GO_V1, GO_V2], ids=lambda client: client.name)
def test_other_sdks_presign_too(machine: dict[str, str], client: Client):
    require(client)
    with scratch() as home:
        env = clean_env(
            home,
            AWS_ENDPOINT_URL=machine["AWS_ENDPOINT_URL"],
            AWS_REGION=machine["AWS_REGION"],
            AWS_ACCESS_KEY_ID=machine["AccessKeyId"],
            AWS_SECRET_ACCESS_KEY=machine["SecretAccessKey"],
            AWS_SESSION_TOKEN=machine["Token"],
        )
        env["PATH"] = client.path(env["PATH"])
        signed = last_json(run([*client.argv, "presign"], env, check=True).stdout)["presign"]
    status, _, body = send(signed.get("method", "GET"), signed["url"])
    assert status == 200, body
    assert arn(machine) in body


def test_what_is_covered_may_not_change(machine: dict[str, str]):
    url = boto_url(machine, HttpMethod="GET")
    for old, new in [("Version=2011-06-15", "Version=2011-06-16"), ("X-Amz-Expires=3600", "X-Amz-Expires=3601")]:
        assert old in url
        status, _, body = send("GET", url.replace(old, new))
        assert status == 403, (new, body)
        assert "<Code>SignatureDoesNotMatch</Code>" in body
    assert send("GET", url + "&X-Amz-Expires=60")[0] >= 400, "no parameter twice"
