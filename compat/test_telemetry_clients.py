"""Telemetry from unmodified clients: AWS's distribution of OpenTelemetry for Python, the Collector, and curl."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients import COLLECTOR, require
from harness import INSIDE, Region, binary, clean_env, read_exports, run, scratch, tool
from metadata import Metadata

EVENT = {"class_uid": 1007, "activity_id": 1, "process": {"pid": 1}}
CURL = """set -eu
curl -sS -o "$HOME/body" -w '%{http_code} ' --aws-sigv4 "aws:amz:$AWS_REGION:guardduty" \
  --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" -H "x-amz-security-token: $AWS_SESSION_TOKEN" "$@"
cat "$HOME/body"
"""
KEYS = """set -eu
json=$(inborn credentials)
field() { printf %s "$json" | sed -n "s|.*\\"$1\\" *: *\\"\\([^\\"]*\\)\\".*|\\1|p"; }
export AWS_ACCESS_KEY_ID=$(field AccessKeyId) AWS_SECRET_ACCESS_KEY=$(field SecretAccessKey)
export AWS_SESSION_TOKEN=$(field SessionToken)
"""


#: As docs/telemetry.md has it, but for the files and the address.
COLLECTING = """
extensions:
  sigv4auth: {{ region: us-east-1, service: guardduty }}
receivers:
  filelog: {{ include: [{lines}], start_at: beginning }}
exporters:
  otlphttp:
    logs_endpoint: {endpoint}/v1/logs
    auth: {{ authenticator: sigv4auth }}
    compression: gzip
service:
  telemetry: {{ metrics: {{ level: none }} }}
  extensions: [sigv4auth]
  pipelines: {{ logs: {{ receivers: [filelog], exporters: [otlphttp] }} }}
"""


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


def counted(region: Region, metric: str) -> int:
    """A counter of the region, over all of its labels that are named."""
    with urllib.request.urlopen(f"{region.ready['operations']}/metrics", timeout=10) as answer:
        found = re.findall(rf"^{re.escape(metric)} (\d+)$", answer.read().decode(), re.MULTILINE)
    return int(found[0]) if found else 0


def test_adot_exports_compressed_otlp(region: Region, machine: dict[str, str]):
    kept = 'inborn_telemetry_records_total{outcome="kept"}'
    before, lies = counted(region, kept), counted(region, "inborn_telemetry_foreign_hosts_total")
    env = {**region.env, **machine}
    command = [tool("python"), INSIDE / "export_logs.py", f"{region.endpoint}/v1/logs", "6"]
    assert run(command, env).stderr == ""
    assert counted(region, kept) - before == 6
    assert counted(region, "inborn_telemetry_foreign_hosts_total") > lies
    # The same again, with the same uids.
    assert run(command, env).stderr == ""
    assert counted(region, kept) - before == 6
    assert counted(region, 'inborn_telemetry_records_total{outcome="duplicate"}') >= 6


def test_the_collector_sends_the_lines_of_a_file(region: Region, machine: dict[str, str], place: Path):
    lines, config, log = place / "events.ndjson", place / "collector.yaml", place / "log"
    lines.write_text("".join(json.dumps({**EVENT, "process": {"pid": pid}}) + "\n" for pid in range(1, 8)))
    config.write_text(COLLECTING.format(lines=lines, endpoint=region.endpoint))
    kept = 'inborn_telemetry_records_total{outcome="kept"}'
    before = counted(region, kept)
    with log.open("w") as errors:
        argv = [*require(COLLECTOR).argv, "--config", f"file:{config}"]
        collector = subprocess.Popen(argv, env={**region.env, **machine}, stderr=errors)
        try:
            deadline = time.monotonic() + 60
            while counted(region, kept) - before < 7 and time.monotonic() < deadline:
                assert collector.poll() is None, log.read_text()
                time.sleep(0.1)
        finally:
            collector.terminate()
            assert collector.wait(30) == 0, log.read_text()
    assert counted(region, kept) - before == 7, log.read_text()


def test_curl_sends_lines_plain_and_compressed(region: Region, machine: dict[str, str], place: Path):
    lines = "\n".join([json.dumps(EVENT), "no event", json.dumps({**EVENT, "activity_id": 2})])
    (place / "lines").write_text(lines)
    (place / "lines.gz").write_bytes(gzip.compress(lines.encode()))
    url, env = f"{region.endpoint}/v1/ocsf", {**region.env, **machine}
    type_ = ["-H", "Content-Type: application/x-ndjson"]
    expected = {"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "record 2: it is not JSON"}}
    for name, more in [("lines", []), ("lines.gz", ["-H", "Content-Encoding: gzip"])]:
        argv = ["sh", "-c", CURL, "sh", *type_, *more, "--data-binary", f"@{place / name}", url]
        status, body = run(argv, env, check=True).stdout.split(" ", 1)
        assert (status, json.loads(body)) == ("200", expected)
    argv = ["sh", "-c", CURL, "sh", *type_, "--data-binary", "hello", url]
    assert run(argv, env, check=True).stdout.startswith("400 ")


def test_curl_in_a_pocket():
    url = "https://guardduty-data.$AWS_REGION.amazonaws.com/v1/logs"
    record = {"body": {"stringValue": json.dumps(EVENT)}}
    body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]})
    script = f"{KEYS}\nset -- -H 'Content-Type: application/json' --data-binary '{body}' \"{url}\"\n{CURL}"
    with scratch() as home:
        result = run([binary(), "run", "--", "sh", "-c", script], clean_env(home), check=True)
    assert result.stdout == "200 {}", result
