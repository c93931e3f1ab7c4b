"""The SDKs of other languages, unmodified: who am I, and what am I refused, in a pocket and over loopback."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from clients import ALL, Client, require
from harness import Region, binary, clean_env, last_json, read_exports, run, scratch
from metadata import while_held

INVALID = "The security token included in the request is invalid"
#: What each service tells the identity role, as its SDKs parse it.
REFUSED = {
    "sts GetSessionToken": {"status": 403, "code": "InvalidClientTokenId", "message": INVALID},
    "sqs ListQueues": {"status": 403, "code": "UnrecognizedClientException", "message": INVALID},
    "iam ListUsers": {"status": 403, "code": "InvalidClientTokenId", "message": INVALID},
    "s3 ListBuckets": {
        "status": 400,
        "code": "InvalidToken",
        "message": "The provided token is malformed or otherwise invalid.",
    },
}
ARN = re.compile(r"arn:aws:sts::(\d{12}):assumed-role/aws:ec2-instance/(i-[0-9a-f]{17})")
MODES = ("whoami", "refusals", "metadata")


@pytest.fixture(scope="module", params=ALL, ids=lambda client: client.name)
def client(request: pytest.FixtureRequest) -> Client:
    return require(request.param)


@pytest.fixture(scope="module")
def in_pocket(client: Client) -> dict:
    """What the client says inside `inborn run`: no endpoint, no key and no certificate is passed to it."""
    with scratch() as place:
        (place / "home").mkdir()
        env = clean_env(place / "home")
        env["PATH"] = client.path(env["PATH"])
        return last_json(run([binary(), "run", "--", *client.argv, *MODES], env, check=True).stdout)


@pytest.fixture(scope="module")
def over_loopback(client: Client, region: Region) -> Iterator[tuple[dict, dict]]:
    """What it says with the exports of `inborn launch` and the credentials of metadata; and the exports."""
    exports = read_exports(region.cli("launch", "--export").stdout)

    def told(credentials: dict[str, str]) -> tuple[dict, dict]:
        keys = {
            "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
            "AWS_SESSION_TOKEN": credentials["Token"],
        }
        env = {**clean_env(region.home), **exports, **keys}
        env["PATH"] = client.path(env["PATH"])
        return last_json(run([*client.argv, *MODES], env, check=True).stdout), {**exports, **keys}

    both, _ = while_held(exports["AWS_EC2_METADATA_SERVICE_ENDPOINT"], told)
    yield both
    region.cli("terminate", exports["INSTANCE_ID"])


def test_it_says_who_it_is_in_a_pocket(in_pocket: dict):
    who = in_pocket["whoami"]
    arn = ARN.fullmatch(who["Arn"])
    assert arn, who
    assert (who["Account"], who["UserId"]) == (arn[1], f"{arn[1]}:aws:ec2-instance:{arn[2]}")
    assert who.get("Attempts", 1) == 1


def test_it_is_refused_elsewhere_in_a_pocket(client: Client, in_pocket: dict):
    told = in_pocket["refusals"]
    assert {name: told[name] for name in client.services} == {name: REFUSED[name] for name in client.services}


def test_its_metadata_client_reads_the_machine_in_a_pocket(in_pocket: dict):
    metadata = in_pocket["metadata"]
    assert metadata["instance"] == ARN.fullmatch(in_pocket["whoami"]["Arn"])[2]
    assert metadata["region"] == "us-east-1"
    assert re.fullmatch(r"ASIA[A-Z2-7]{16}", metadata["key"])


def test_it_says_who_it_is_over_loopback(region: Region, over_loopback: tuple[dict, dict]):
    results, machine = over_loopback
    instance = machine["INSTANCE_ID"]
    who = results["whoami"]
    assert who["Arn"] == f"arn:aws:sts::{region.account}:assumed-role/aws:ec2-instance/{instance}"
    assert (who["Account"], who["UserId"]) == (region.account, f"{region.account}:aws:ec2-instance:{instance}")


def test_it_is_refused_elsewhere_over_loopback(client: Client, over_loopback: tuple[dict, dict]):
    told = over_loopback[0]["refusals"]
    assert {name: told[name] for name in client.services} == {name: REFUSED[name] for name in client.services}


def test_its_metadata_client_follows_the_exports(over_loopback: tuple[dict, dict]):
    results, machine = over_loopback
    assert results["metadata"] == {
        "instance": machine["INSTANCE_ID"],
        "region": machine["AWS_REGION"],
        "key": machine["AWS_ACCESS_KEY_ID"],
    }
