"""`inborn run`: an unmodified client inside a pocket says who it is, and is refused everything else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import INSIDE, INSTANCE_ID, NOBODY, ROOT, Region, Result, binary, clean_env, last_json, run, scratch

IDENTITY_ARN = re.compile(r"^arn:aws:sts::(\d{12}):assumed-role/aws:ec2-instance/(i-[0-9a-f]{17})$")
Pocket = Callable[..., Result]


def reachable_copies(place: Path) -> tuple[Path, Path]:
    """The binary and the Python environment where an unprivileged user can reach them."""
    copied = place / "bin"
    copied.mkdir(exist_ok=True)
    shutil.copy2(binary(), copied / "inborn")
    environment = Path(sys.prefix)
    probe = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", sys.executable, "-c", ""]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        shutil.copytree(environment, place / "venv", symlinks=True, dirs_exist_ok=True)
        environment = place / "venv"
    shutil.copytree(INSIDE, place / "inside", dirs_exist_ok=True)
    return copied, environment / "bin" / "python"


@pytest.fixture(scope="module", params=["root with up", "root alone", "unprivileged with up", "unprivileged alone"])
def pocket(request: pytest.FixtureRequest) -> Iterator[Pocket]:
    """`pocket("aws", …)` runs a command by `inborn run`, as root or not, with a running `up` or with none.

    Without root, the two "root" cases run as whoever runs the tests.
    """
    unprivileged, with_up = request.param.startswith("unprivileged"), request.param.endswith("up")
    if unprivileged and not ROOT:
        pytest.skip("only root can become somebody else; the other cases ran as an unprivileged user already")
    with scratch() as place:
        home = place / "home"
        home.mkdir()
        env = clean_env(home)
        prefix: list[str] = []
        program, python, inside = binary(), Path(sys.executable), INSIDE
        if unprivileged:
            copied, python = reachable_copies(place)
            program, inside = copied / "inborn", place / "inside"
            env["PATH"] = f"{copied}:{env['PATH']}"
            os.chown(home, NOBODY, NOBODY)
            ids = [str(NOBODY), "--regid", str(NOBODY)]
            prefix = ["setpriv", "--reuid", *ids, "--clear-groups", "--no-new-privs"]
        up = None
        if with_up:
            # The one who runs `up` owns its data; another user would have no right to its operator key.
            up = Region(home / "data", home)
            up.command_prefix = prefix
            up.program = program
            up.start()
            env["INBORN_DATA"] = str(up.data)

        def call(*argv: str | Path, check: bool = True, **more) -> Result:
            words = {"aws": [python, "-m", "awscli"], "python": [python]}.get(str(argv[0]), [argv[0]])
            words += [inside / word.name if isinstance(word, Path) else word for word in argv[1:]]
            return run([*prefix, program, "run", "--", *words], {**env, **more.pop("env", {})}, check=check, **more)

        call.up = up
        yield call
        if up is not None:
            up.stop()


def test_the_aws_cli_says_who_it_is(pocket: Pocket):
    identity = json.loads(pocket("aws", "sts", "get-caller-identity", "--output", "json").stdout)
    arn = IDENTITY_ARN.match(identity["Arn"])
    assert arn, identity
    assert identity["Account"] == arn[1]
    assert identity["UserId"] == f"{arn[1]}:aws:ec2-instance:{arn[2]}"


def test_boto3_says_who_it_is_at_every_endpoint(pocket: Pocket):
    found = last_json(pocket("python", INSIDE / "identity.py").stdout)
    assert IDENTITY_ARN.match(found["default"]["Arn"]), found
    assert found["default"] == found["regional"] == found["global"]
    assert found["method"] == "custom-process", "the credentials come from `inborn credentials`"
    assert found["key_prefix"] == "ASIA"
    assert 130 <= found["token_length"] <= 300
    assert found["default_endpoint"] == f"https://sts.{found['region']}.amazonaws.com", "no endpoint override"


def test_tls_is_trusted_without_a_setting(pocket: Pocket):
    region = pocket("aws", "configure", "get", "region", check=False).stdout.strip()
    region = region or pocket("sh", "-c", "printf %s $AWS_REGION").stdout
    found = last_json(pocket("python", INSIDE / "trust.py", region).stdout)
    assert all(isinstance(status, int) for status in found["answers"].values()), found
    assert all(found["variables"].values()), found


def test_curl_trusts_the_system_store(pocket: Pocket):
    script = "unset AWS_CA_BUNDLE SSL_CERT_FILE CURL_CA_BUNDLE; curl -sS -o /dev/null -w %{http_code} https://sts.amazonaws.com/"
    assert pocket("sh", "-c", script).stdout == "302", "STS sends a browser to its documentation"


def test_metadata_answers_at_the_link_local_address(pocket: Pocket):
    script = """set -eu
    base=http://169.254.169.254/latest
    token=$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $base/api/token)
    curl -sf -H "X-aws-ec2-metadata-token: $token" $base/meta-data/instance-id"""
    assert INSTANCE_ID.match(pocket("sh", "-c", script).stdout)


def test_everything_else_is_refused(pocket: Pocket):
    told = last_json(pocket("python", INSIDE / "refusals.py").stdout)
    invalid = "The security token included in the request is invalid"
    assert told["sts get_session_token"] == {"status": 403, "code": "InvalidClientTokenId", "message": invalid}
    assert told["sts assume_role"]["code"] == "InvalidClientTokenId"
    assert told["sqs list_queues"]["code"] == "UnrecognizedClientException"
    assert told["sqs list_queues"]["message"] == invalid
    assert told["dynamodb list_tables"]["code"] == "UnrecognizedClientException"
    assert told["ssm describe_parameters"]["code"] == "UnrecognizedClientException"
    assert told["iam list_users"] == {"status": 403, "code": "InvalidClientTokenId", "message": invalid}
    assert (told["ec2 describe_instances"]["status"], told["ec2 describe_instances"]["code"]) == (401, "AuthFailure")
    assert (told["ec2 terminate_instances"]["status"], told["ec2 terminate_instances"]["code"]) == (401, "AuthFailure")
    assert (told["s3 list_buckets"]["status"], told["s3 list_buckets"]["code"]) == (400, "InvalidToken")


#: The AWS CLI as `aws` starts it, four times in one process.
REFUSED_CALLS = """from awscli.clidriver import create_clidriver
for call in ("sts get-session-token", "sqs list-queues", "iam list-users", "s3 ls"):
    assert create_clidriver().main(call.split()) != 0, call
"""


def test_the_aws_cli_is_refused_elsewhere(pocket: Pocket):
    told = [line for line in pocket("python", "-c", REFUSED_CALLS).stderr.splitlines() if line.strip()]
    invalid = "The security token included in the request is invalid"
    expected = [
        f"(InvalidClientTokenId) when calling the GetSessionToken operation: {invalid}",
        f"(UnrecognizedClientException) when calling the ListQueues operation: {invalid}",
        f"(InvalidClientTokenId) when calling the ListUsers operation: {invalid}",
        "(InvalidToken) when calling the ListBuckets operation: The provided token is malformed or otherwise invalid.",
    ]
    assert [line[line.find("(") :] for line in told if "error occurred" in line] == expected


def test_inborn_itself_works_inside(pocket: Pocket):
    credentials = json.loads(pocket("inborn", "credentials").stdout)
    assert credentials["Version"] == 1
    assert credentials["AccessKeyId"].startswith("ASIA")
    assert re.fullmatch(r"[A-Za-z0-9+/]{40}", credentials["SecretAccessKey"])
    assert re.fullmatch(r"[A-Za-z0-9_-]{130,300}", credentials["SessionToken"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", credentials["Expiration"])
    assert "assumed-role/aws:ec2-instance/i-" in pocket("inborn", "whoami").stdout
