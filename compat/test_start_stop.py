"""Starting, stopping, and the ways in which a start must refuse."""

from __future__ import annotations

import json
import secrets
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import KEY_FILE, Region, at_best_within, binary, clean_env, read_exports, run, wait_until
from metadata import Metadata
from raw import connect, many

READY_KEYS = {"endpoint", "tls_endpoint", "operations", "operator_env", "ca_bundle", "region", "account", "data"}
#: The promise for a stop.
STOP_SECONDS = 1.0
MakeRegion = Callable[..., Region]


def refused_start(region: Region) -> str:
    """Starts `up` where it must refuse, and returns what it says."""
    ready = region.home / "never.json"
    result = run(region.command(ready), clean_env(region.home), timeout=30)
    assert result.returncode != 0, "it started"
    assert not ready.exists(), "it said that it was ready"
    assert "panicked" not in result.stderr
    assert result.stderr.strip(), "it says nothing"
    return result.stderr


def contents(data: Path) -> dict[str, bytes]:
    return {str(path.relative_to(data)): path.read_bytes() for path in sorted(data.rglob("*")) if path.is_file()}


def test_the_ready_file_says_everything(fresh: Region):
    assert fresh.ready.keys() >= READY_KEYS
    assert fresh.endpoint.startswith("http://127.0.0.1:")
    assert fresh.ready["tls_endpoint"].startswith("https://")
    assert Path(fresh.ready["data"]) == fresh.data
    assert "BEGIN CERTIFICATE" in Path(fresh.ready["ca_bundle"]).read_text()
    assert fresh.operator().keys() >= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert fresh.operator()["AWS_ACCESS_KEY_ID"].startswith("AKIA")


def test_files_with_secrets_are_the_owners_alone(fresh: Region):
    for path in (fresh.data / KEY_FILE, Path(fresh.ready["operator_env"])):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_flags_name_the_region(make_region: MakeRegion):
    flags = [
        "--region",
        "cn-north-1",
        "--account",
        "210987654321",
        "--partition",
        "aws-cn",
        "--domain",
        "amazonaws.com.cn",
    ]
    region = make_region("cn", *flags).start()
    assert (region.name, region.account) == ("cn-north-1", "210987654321")
    machine = read_exports(region.cli("launch", "--export").stdout)
    metadata = Metadata(machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"])
    assert metadata.get("meta-data/services/domain") == "amazonaws.com.cn"
    arn = region.client("sts", metadata.identity()).get_caller_identity()["Arn"]
    assert arn == f"arn:aws-cn:sts::210987654321:assumed-role/aws:ec2-instance/{machine['INSTANCE_ID']}"


@pytest.mark.parametrize(
    "flags",
    [["--region", "Mars"], ["--account", "123"], ["--partition", "aws-moon"], ["--port", "70000"], ["--no-such-flag"]],
    ids=lambda flags: flags[0],
)
def test_flags_that_make_no_sense(make_region: MakeRegion, flags: list[str]):
    said = refused_start(make_region("data", *flags))
    assert flags[-1] in said


def test_ephemeral_leaves_nothing(place: Path):
    home = place / "home"
    ready = home / "ready.json"
    argv = [str(binary()), "up", "--ephemeral", "--ready-file", str(ready)]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(argv, env=clean_env(home), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(ready.exists, "`up --ephemeral` is ready", 30)
        told = json.loads(ready.read_text())
        env = clean_env(home, INBORN_DATA=told["data"])
        launched = run([binary(), "launch", "--export"], env, check=True).stdout
        assert read_exports(launched)["INSTANCE_ID"].startswith("i-")
    finally:
        process.terminate()
        assert process.wait(10) == 0
    assert not list(Path(told["data"]).glob("*.db*"))


def test_a_second_up_on_the_same_data_refuses(fresh: Region, make_region: MakeRegion):
    said = refused_start(make_region(data=fresh.data))
    assert str(fresh.data) in said
    assert fresh.client("sts").get_caller_identity()["Account"] == fresh.account


@pytest.mark.parametrize("damage", ["missing", "wrong", "empty", "garbage", "world-readable", "group-readable"])
def test_a_bad_key_file_refuses_and_changes_nothing(fresh: Region, damage: str):
    machine = read_exports(fresh.cli("launch", "--export").stdout)
    credentials = Metadata(machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"]).identity()
    fresh.stop()
    key = fresh.data / KEY_FILE
    kept = fresh.home / "kept.key"
    shutil.copy2(key, kept)
    if damage == "missing":
        key.unlink()
    elif damage == "wrong":
        # A key of the right form that is another key: that of another region.
        other = Region(fresh.home / "other", fresh.home).start()
        other.stop()
        shutil.copy2(other.data / KEY_FILE, key)
    elif damage == "empty":
        key.write_bytes(b"")
    elif damage == "garbage":
        key.write_bytes(secrets.token_bytes(64))
    else:
        key.chmod(0o644 if damage == "world-readable" else 0o640)

    before = contents(fresh.data)
    assert KEY_FILE in refused_start(fresh)
    after = contents(fresh.data)
    assert after.get(KEY_FILE) == before.get(KEY_FILE), "it made or changed a key"

    shutil.copy2(kept, key)
    fresh.start()
    assert fresh.client("sts", credentials).get_caller_identity()["Arn"].endswith(machine["INSTANCE_ID"])


def key_of(operator: dict[str, str]) -> tuple[str, str]:
    return operator["AWS_ACCESS_KEY_ID"], operator["AWS_SECRET_ACCESS_KEY"]


def test_a_restart_changes_nothing(fresh: Region):
    machine = read_exports(fresh.cli("launch", "--name", "web-1", "--export").stdout)
    credentials = Metadata(machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"]).identity()
    operator = fresh.operator()
    fresh.stop()
    fresh.start()
    assert key_of(fresh.operator()) == key_of(operator)
    assert fresh.state_of(machine["INSTANCE_ID"]) == "running"
    assert fresh.client("sts", credentials).get_caller_identity()["Arn"].endswith(machine["INSTANCE_ID"])
    fresh.cli("terminate", "web-1")
    fresh.stop()
    fresh.start()
    with pytest.raises(Exception, match="InvalidClientTokenId"):
        fresh.client("sts", credentials).get_caller_identity()


def test_sigterm_stops_at_once(make_region: MakeRegion):
    def stopped(number: int) -> float:
        region = make_region(f"data-{number}").start()
        seconds = region.stop()
        assert region.process.returncode == 0
        return seconds

    at_best_within(STOP_SECONDS, stopped)


def test_sigterm_waits_for_no_client(make_region: MakeRegion):
    said = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"

    def stopped(number: int) -> float:
        region = make_region(f"data-{number}").start()
        region.cli("launch", "--export")
        with many(region.port, 50), many(region.port, 50, said):
            seconds = region.stop()
        assert region.process.returncode == 0
        with pytest.raises(ConnectionRefusedError):
            connect(region.port)
        return seconds

    at_best_within(STOP_SECONDS, stopped)


def test_a_stopped_region_is_told_as_such(fresh: Region):
    fresh.stop()
    result = fresh.cli("ps", check=False)
    assert result.returncode != 0
    assert "up" in result.stderr, "it says what to do"


def test_ready_soon(make_region: MakeRegion):
    def ready(number: int) -> float:
        started = time.monotonic()
        make_region(f"data-{number}").start()
        return time.monotonic() - started

    # The promise is 2 s, for the optimised binary on a quiet machine.
    at_best_within(5, ready)
