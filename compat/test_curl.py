"""`curl --aws-sigv4`: the client that every script has."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from harness import Region, binary, clean_env, read_exports, run, scratch
from metadata import Metadata

#: The token is one `-H` more, and curl signs it with the others; the body's type it does not sign.
SCRIPT = """set -eu
call() {
  service=$1
  shift
  curl -sS -o "$HOME/body" -w '%{http_code} ' --aws-sigv4 "aws:amz:$AWS_REGION:$service" \
    --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" -H "x-amz-security-token: $AWS_SESSION_TOKEN" "$@"
  # The JSON has no line feed at its end.
  echo "$(sed -n -e 's|.*<Arn>\\(.*\\)</Arn>.*|\\1|p' -e 's|.*<Code>\\([^<]*\\)</Code>.*|\\1|p' \
    -e 's|.*"__type": *"\\([^"]*\\)".*|\\1|p' "$HOME/body")"
}
sts=${AWS_ENDPOINT_URL:-https://sts.$AWS_REGION.amazonaws.com}
sqs=${AWS_ENDPOINT_URL:-https://sqs.$AWS_REGION.amazonaws.com}
iam=${AWS_ENDPOINT_URL:-https://iam.amazonaws.com}
call sts -d 'Action=GetCallerIdentity&Version=2011-06-15' "$sts/"
call sts -d 'Action=GetSessionToken&Version=2011-06-15' "$sts/"
call sqs -H 'Content-Type: application/x-amz-json-1.0' -H 'X-Amz-Target: AmazonSQS.ListQueues' -d '{}' "$sqs/"
AWS_REGION=us-east-1 call iam -d 'Action=ListUsers&Version=2010-05-08' "$iam/"
"""
KEYS = """set -eu
json=$(inborn credentials)
field() { printf %s "$json" | sed -n "s|.*\\"$1\\" *: *\\"\\([^\\"]*\\)\\".*|\\1|p"; }
export AWS_ACCESS_KEY_ID=$(field AccessKeyId) AWS_SECRET_ACCESS_KEY=$(field SecretAccessKey)
export AWS_SESSION_TOKEN=$(field SessionToken)
"""
REFUSED = [
    "403 InvalidClientTokenId",
    "403 com.amazon.coral.service#UnrecognizedClientException",
    "403 InvalidClientTokenId",
]
ARN = re.compile(r"200 arn:aws:sts::\d{12}:assumed-role/aws:ec2-instance/(i-[0-9a-f]{17})")


@pytest.fixture
def machine(region: Region) -> Iterator[dict[str, str]]:
    exports = read_exports(region.cli("launch", "--export").stdout)
    credentials = Metadata(exports["AWS_EC2_METADATA_SERVICE_ENDPOINT"]).identity()
    keys = {
        "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
        "AWS_SESSION_TOKEN": credentials["Token"],
    }
    yield {**exports, **keys}
    region.cli("terminate", exports["INSTANCE_ID"])


def test_over_loopback(region: Region, machine: dict[str, str]):
    lines = run(["sh", "-c", SCRIPT], {**region.env, **machine}, check=True).stdout.splitlines()
    assert ARN.fullmatch(lines[0])[1] == machine["INSTANCE_ID"]
    assert lines[1:] == REFUSED


def test_in_a_pocket():
    with scratch() as home:
        lines = run([binary(), "run", "--", "sh", "-c", KEYS + SCRIPT], clean_env(home), check=True).stdout.splitlines()
    assert ARN.fullmatch(lines[0]), lines
    assert lines[1:] == REFUSED
