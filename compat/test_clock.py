"""Clocks that disagree by twenty minutes: which SDKs recover by themselves from the `Date` of the refusal?

The region has the wrong clock, not the client: it makes no difference to either, and libfaketime cannot reach into a Go
program, which asks the kernel itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from clients import GO_V1, GO_V2, JAVA, JS, RUST, Client, require
from harness import Region, boto_client, clean_env, last_json, read_exports, run, scratch
from metadata import Metadata

#: From Debian's package of the same name.
FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


@pytest.fixture(scope="module", params=["+20m", "-20m"])
def machine(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """A machine in a region of another time: what clients need to reach it."""
    if FAKETIME is None:
        reason = "no libfaketime; on Debian: apt-get install libfaketime"
        if os.environ.get("CI", "false") not in ("", "false"):
            pytest.fail(reason)
        pytest.skip(reason)
    with scratch() as place:
        (place / "home").mkdir()
        region = Region(place / "data", place / "home")
        time = [f"LD_PRELOAD={FAKETIME}", f"FAKETIME={request.param}", "FAKETIME_DONT_FAKE_MONOTONIC=1"]
        region.command_prefix = ["env", *time]
        region.start()
        # Its operator's calls are signed at its own time.
        launch = ["env", *time, str(region.program), "launch", "--export"]
        exports = read_exports(run(launch, region.env, check=True).stdout)
        credentials = Metadata(exports["AWS_EC2_METADATA_SERVICE_ENDPOINT"]).identity()
        yield {
            **exports,
            "HOME": str(place / "home"),
            "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
            "AWS_SESSION_TOKEN": credentials["Token"],
        }
        region.stop()


def whoami(client: Client, machine: dict[str, str]):
    env = {**clean_env(Path(machine["HOME"])), **machine}
    env["PATH"] = client.path(env["PATH"])
    return run([*client.argv, "whoami"], env)


@pytest.mark.parametrize("client", [JS, GO_V2, JAVA, RUST], ids=lambda client: client.name)
def test_it_corrects_itself(machine: dict[str, str], client: Client):
    result = whoami(require(client), machine)
    assert result.returncode == 0, result.stderr
    who = last_json(result.stdout)["whoami"]
    assert who["Arn"].endswith(machine["INSTANCE_ID"])
    assert who.get("Attempts", 2) == 2


def test_go_v1_does_not(machine: dict[str, str]):
    result = whoami(require(GO_V1), machine)
    assert result.returncode == 1
    assert result.stderr.startswith(
        ("SignatureDoesNotMatch: Signature expired", "SignatureDoesNotMatch: Signature not")
    )


def test_botocore_does_not(machine: dict[str, str]):
    sts = boto_client("sts", machine["AWS_ENDPOINT_URL"], machine["AWS_REGION"], machine)
    with pytest.raises(ClientError) as caught:
        sts.get_caller_identity()
    answer = caught.value.response
    assert (answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]) == (403, "SignatureDoesNotMatch")
    assert answer["Error"]["Message"].startswith(("Signature expired: ", "Signature not yet current: "))
