"""Inside a pocket: `inborn credentials --serve` gives boto3 what it wants in a container. Prints who it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError


def status(url: str, **headers: str) -> int:
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code


def caller() -> str:
    session = boto3.session.Session()
    return session.client("sts").get_caller_identity()["Arn"]


server = subprocess.Popen(["inborn", "credentials", "--serve"], stdout=subprocess.PIPE, text=True)
lines = [server.stdout.readline().strip().removeprefix("export ") for _ in range(2)]
variables = {name: value.strip("'") for name, value in (line.split("=", 1) for line in lines)}
token = Path(variables["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"])
url = variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
# Nothing but the container's way: no profile, no metadata.
os.environ.update(
    AWS_CONFIG_FILE="/dev/null", AWS_EC2_METADATA_DISABLED="true", AWS_DEFAULT_REGION=os.environ["AWS_REGION"]
)
os.environ.update(variables)
result = {"arn": caller(), "mode": oct(token.stat().st_mode & 0o777), "url": url}
result["without"] = status(url)
result["wrong"] = status(url, Authorization="0" * 64)
result["right"] = status(url, Authorization=token.read_text())
os.environ.pop("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
try:
    result["no token"] = caller()
except BotoCoreError as error:
    result["no token"] = type(error).__name__
server.send_signal(signal.SIGTERM)
result["status"] = server.wait(10)
result["token is gone"] = not token.exists()
print(json.dumps(result))
