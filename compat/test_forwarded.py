"""A signed GetCallerIdentity that its signer hands to somebody else, who sends it on: how Vault, Consul and Teleport
learn who a machine is."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from harness import Region, read_exports
from metadata import Metadata

BODY = "Action=GetCallerIdentity&Version=2011-06-15"
FORM = "application/x-www-form-urlencoded; charset=utf-8"
#: What the signer calls the endpoint; whoever forwards the request goes to another and keeps this name.
SIGNED_HOST = "sts.us-east-1.amazonaws.com"
NAMESPACE = "{https://sts.amazonaws.com/doc/2011-06-15/}"


@pytest.fixture(scope="module")
def machine(region: Region) -> Iterator[dict[str, str]]:
    exports = read_exports(region.cli("launch", "--export").stdout)
    credentials = Metadata(exports["AWS_EC2_METADATA_SERVICE_ENDPOINT"]).identity()
    yield {**exports, **credentials}
    region.cli("terminate", exports["INSTANCE_ID"])


def signed(machine: dict[str, str], host: str = SIGNED_HOST, region: str = "us-east-1", **headers: str) -> dict:
    """The headers of a signed POST to `https://HOST/`, those given among the signed ones."""
    request = AWSRequest("POST", f"https://{host}/", data=BODY, headers={"Content-Type": FORM, **headers})
    keys = Credentials(machine["AccessKeyId"], machine["SecretAccessKey"], machine["Token"])
    SigV4Auth(keys, "sts", region).add_auth(request)
    return {"Host": host, **dict(request.headers.items())}


def forward(region: Region, headers: dict[str, str], path: str = "/", body: str = BODY) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", region.port, timeout=5)
    connection.request("POST", path, body=body, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.getheader("Content-Type"), answer.read().decode()


def refused(answer: tuple[int, str, str]) -> tuple[int, str]:
    return answer[0], ElementTree.fromstring(answer[2]).findtext(f".//{NAMESPACE}Code")


SERVER_ID = {"X-Vault-AWS-IAM-Server-ID": "vault.example.org"}


@pytest.mark.parametrize("host", [SIGNED_HOST, "sts.amazonaws.com"])
@pytest.mark.parametrize("path", ["/", "//"])
def test_vault_sends_it_on_with_its_host_and_a_doubled_slash(
    region: Region, machine: dict[str, str], host: str, path: str
):
    headers = signed(machine, host, **SERVER_ID)
    assert "x-vault-aws-iam-server-id" in headers["Authorization"]
    status, kind, body = forward(region, headers, path)
    assert (status, kind) == (200, "text/xml"), "Vault compares the type for equality"
    assert body.startswith("<GetCallerIdentityResponse"), "OpenBao and Consul look at the first characters"
    assert f"assumed-role/aws:ec2-instance/{machine['INSTANCE_ID']}</Arn>" in body


def test_consul_names_its_header_itself(region: Region, machine: dict[str, str]):
    headers = signed(machine, **{"X-Consul-IAM-ServerID": "consul.example.org"})
    assert forward(region, headers, "//")[0] == 200


def test_teleport_wants_json(region: Region, machine: dict[str, str]):
    headers = signed(machine, Accept="application/json", **{"X-Teleport-Challenge": "kZ8ZtSyxhqcSYUpfGuoEOA"})
    status, kind, body = forward(region, headers)
    assert (status, kind) == (200, "application/json")
    identity = json.loads(body)["GetCallerIdentityResponse"]["GetCallerIdentityResult"]
    assert identity["Account"] == region.account


def test_meant_for_one_it_is_no_proof_to_another(region: Region, machine: dict[str, str]):
    headers = signed(machine, **SERVER_ID)
    other = {**headers, "X-Vault-AWS-IAM-Server-ID": "attacker.example.org"}
    assert refused(forward(region, other)) == (403, "SignatureDoesNotMatch")
    without = {name: value for name, value in headers.items() if name not in SERVER_ID}
    assert forward(region, without)[0] in (400, 403)


def test_nothing_that_is_signed_may_change(region: Region, machine: dict[str, str]):
    headers = signed(machine, **SERVER_ID)
    assert refused(forward(region, {**headers, "Host": "sts.amazonaws.com"})) == (403, "SignatureDoesNotMatch")
    assert refused(forward(region, headers, body=BODY + "&x=y")) == (403, "SignatureDoesNotMatch")
    assert refused(forward(region, headers, "/elsewhere")) == (403, "SignatureDoesNotMatch")


def test_it_is_good_more_than_once(region: Region, machine: dict[str, str]):
    headers = signed(machine, **SERVER_ID)
    assert [forward(region, headers, "//")[0] for _ in range(3)] == [200, 200, 200]


def test_a_signature_for_another_region_is_refused(region: Region, machine: dict[str, str]):
    headers = signed(machine, "sts.eu-west-1.amazonaws.com", "eu-west-1", **SERVER_ID)
    assert forward(region, headers)[0] in (400, 403)
