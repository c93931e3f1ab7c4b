"""Telemetry in a bucket: `inborn up` against moto's S3, over a wire that stalls and breaks; DuckDB reads it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import duckdb
import pytest
from moto.server import ThreadedMotoServer

from harness import Region, binary, clean_env, run, wait_until

REPOSITORY = Path(__file__).resolve().parent.parent
ACCOUNT = "123456789012"
INSTANCE = "i-0123456789abcdef0"
REGION = "eu-west-1"
NOON = 1_800_014_400_000
DAY = 86_400_000
BUCKET = "telemetry"
PREFIX = "some/where"
KEY_ID, SECRET = "AKIACOMPAT", "the-secret-of-compat"
#: After a failure it is tried again in at most a minute.
AGAIN_SECONDS = 90.0

Make = Callable[..., Region]


class Wire:
    """Between a region and its store: passes bytes on, or lets them wait, or refuses."""

    def __init__(self, port: int):
        self.port = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.flowing = threading.Event()
        self.flowing.set()
        self.is_refusing = False
        #: Set when bytes came that wait.
        self.waiting = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self) -> None:
        self.waiting.clear()
        self.flowing.clear()

    def go_on(self) -> None:
        self.flowing.set()

    def close(self) -> None:
        self.flowing.set()
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.is_refusing:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self.port))
            threading.Thread(target=self._pass_on, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(server, client, False), daemon=True).start()

    def _pass_on(self, source: socket.socket, to: socket.socket, stalls: bool) -> None:
        try:
            while piece := source.recv(1 << 16):
                if stalls and not self.flowing.is_set():
                    # Half of it gets through: a store sees the beginning of a request.
                    to.sendall(piece[: len(piece) // 2])
                    piece = piece[len(piece) // 2 :]
                    self.waiting.set()
                    self.flowing.wait()
                to.sendall(piece)
        except OSError:
            pass
        finally:
            for end in (source, to):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module", autouse=True)
def has_feature() -> None:
    refused = run([binary(), "up", "--telemetry-store", "s3://x"], clean_env(Path("/nonexistent")))
    if "feature `s3`" in refused.stderr:
        assert os.environ.get("CI") != "true", "on CI the program under test has the feature"
        pytest.skip("the program under test was built without the feature s3")


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    """Of two classes and two days."""
    return [
        {
            "class_uid": class_uid,
            "category_uid": class_uid // 1000,
            "activity_id": 1,
            "type_uid": class_uid * 100 + 1,
            "severity_id": 1,
            "time": NOON - DAY * (number % 2) + number,
            "metadata": {"version": "1.3.0", "uid": f"e-{class_uid}-{number}", "product": {"name": "t"}},
            "device": {"uid": INSTANCE, "type_id": 6},
            "message": f"event {number}",
        }
        for class_uid in (1007, 4001)
        for number in range(50)
    ]


@pytest.fixture(scope="module")
def filled(events: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake whose log has become Parquet, which takes five minutes otherwise."""
    if shutil.which("cargo") is None:
        pytest.skip("the lake is made by an example of its crate, which needs cargo")
    place = tmp_path_factory.mktemp("lake")
    command = ["cargo", "run", "--quiet", "-p", "inborn-lake", "--example", "fill", "--", str(place), ACCOUNT, INSTANCE]
    lines = "".join(json.dumps(one) + "\n" for one in events)
    subprocess.run(command, cwd=REPOSITORY, input=lines, text=True, check=True)
    return place


@pytest.fixture
def store() -> Iterator[Any]:
    """A boto3 client of an empty bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name=REGION,
        aws_access_key_id="admin",
        aws_secret_access_key="admin",
    )
    urllib.request.urlopen(
        urllib.request.Request(f"http://127.0.0.1:{port}/moto-api/reset", method="POST"), timeout=10
    ).close()
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    yield client
    server.stop()


@pytest.fixture
def wire(store: Any) -> Iterator[Wire]:
    wire = Wire(int(store.meta.endpoint_url.rsplit(":", 1)[1]))
    yield wire
    wire.close()


@pytest.fixture
def url(wire: Wire, place: Path) -> str:
    credentials = place / "s3"
    credentials.write_text(f"[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n")
    credentials.chmod(0o600)
    return f"s3://{BUCKET}/{PREFIX}?endpoint={wire.address}&region={REGION}&credentials={credentials}"


@pytest.fixture
def region(make_region: Make, filled: Path, url: str, place: Path) -> Region:
    """Not started; its telemetry is Parquet on its disk."""
    # What is kept for so long is none of it too old, whenever this runs.
    keeps = ["--telemetry-local-gib", "0", "--telemetry-days", "36500"]
    region = make_region("data", "--region", REGION, "--telemetry-store", url, *keeps)
    region.data.mkdir(mode=0o700)
    shutil.copytree(filled, region.data / "telemetry")
    (region.data / "telemetry").chmod(0o700)
    return region


def local(region: Region) -> set[str]:
    root = region.data / "telemetry"
    return {f"{PREFIX}/{path.relative_to(root)}" for path in (root / "ext").rglob("*.parquet")}


def keys(store: Any) -> set[str]:
    return {found["Key"] for found in store.list_objects_v2(Bucket=BUCKET).get("Contents", [])}


def ask(region: Region, path: str) -> tuple[int, str]:
    with urllib.request.urlopen(region.ready["operations"] + path, timeout=10) as answer:
        return answer.status, answer.read().decode()


def waiting(region: Region) -> int:
    _, metrics = ask(region, "/metrics")
    return int(re.search(r"^inborn_telemetry_waiting_files (\d+)$", metrics, re.M).group(1))


def settled(region: Region) -> None:
    """Nothing waits, and nothing of it is on the disk any more."""
    try:
        wait_until(lambda: waiting(region) == 0 and not local(region), "all is delivered", AGAIN_SECONDS)
    except AssertionError as error:
        raise AssertionError(f"{error}: {waiting(region)} wait\n{region.output()}") from error


def told(region: Region, *more: str) -> list[str]:
    """The uids that `inborn events` tells, in its order."""
    lines = region.cli("events", "--output", "json", *more).stdout.splitlines()
    return [json.loads(line)["metadata"]["uid"] for line in lines]


def check_all_there(region: Region, store: Any, events: list[dict[str, Any]], place: Path, names: set[str]) -> None:
    """Every event once, for DuckDB and for `inborn events`, out of the bucket alone."""
    assert keys(store) == names
    assert local(region) == set()
    for key in names:
        path = place / "fetched" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        store.download_file(BUCKET, key, str(path))
    tree = f"'{place}/fetched/{PREFIX}/ext/**/*.parquet'"
    rows = duckdb.sql(
        f"SELECT metadata.uid, time, eventDay, accountId FROM read_parquet({tree}, hive_partitioning = true, "
        "union_by_name = true)"
    ).fetchall()
    days = {NOON // DAY: 20270115, NOON // DAY - 1: 20270114}
    expected = [(e["metadata"]["uid"], e["time"], days[e["time"] // DAY], int(ACCOUNT)) for e in events]
    assert sorted((uid, time, int(day), int(account)) for uid, time, day, account in rows) == sorted(expected)
    in_order = [e["metadata"]["uid"] for e in sorted(events, key=lambda e: e["time"])]
    assert sorted(told(region)) == sorted(in_order)
    assert told(region, "--class", "1007") == [uid for uid in in_order if "-1007-" in uid]
    assert told(region, "--where", "message=event 7") == ["e-1007-7", "e-4001-7"]


@pytest.mark.timeout(600)
def test_what_is_delivered_is_parquet_to_others_and_found(
    region: Region, store: Any, events: list[dict[str, Any]], place: Path
):
    names = local(region)
    assert len(names) == 4
    store.put_object(Bucket=BUCKET, Key=f"{PREFIX}/ext/somebody-elses", Body=b"x")
    region.start()
    settled(region)
    assert ask(region, "/readyz") == (200, "ok\n")
    store.delete_object(Bucket=BUCKET, Key=f"{PREFIX}/ext/somebody-elses")
    check_all_there(region, store, events, place, names)
    region.stop()
    region.start()
    assert len(told(region)) == len(events), "and after a restart"
    everything = region.output() + "".join(
        path.read_text(errors="replace") for path in region.data.rglob("*") if path.is_file()
    )
    assert SECRET not in everything


@pytest.mark.timeout(600)
def test_kill_nine_in_the_midst_of_uploads_loses_nothing_and_leaves_nothing_twice(
    region: Region, store: Any, wire: Wire, events: list[dict[str, Any]], place: Path
):
    names = local(region)
    for _ in range(3):
        wire.stall()
        region.start()
        assert wire.waiting.wait(AGAIN_SECONDS), region.output()
        assert ask(region, "/readyz")[0] == 200
        region.kill()
        # What was on its way may still arrive.
        wire.go_on()
    region.start()
    settled(region)
    check_all_there(region, store, events, place, names)


@pytest.mark.timeout(600)
def test_a_store_that_is_away_is_told_and_taken_up_again(
    region: Region, store: Any, wire: Wire, url: str, events: list[dict[str, Any]], place: Path
):
    names = local(region)
    wire.is_refusing = True
    region.start()
    remark = f"remark: 4 files of telemetry (0 MiB) wait for s3://{BUCKET}/{PREFIX}?endpoint={wire.address}: "
    wait_until(lambda: remark in ask(region, "/readyz")[1], region.output(), AGAIN_SECONDS)
    assert ask(region, "/readyz")[0] == 200, "no reason to send calls elsewhere"
    assert waiting(region) == 4
    assert len(told(region)) == len(events), "it is all still here"
    doctor = run([binary(), "doctor", "--output", "json"], region.env | {"INBORN_TELEMETRY_STORE": url})
    found = {check["check"]: check for check in json.loads(doctor.stdout)["checks"]}["telemetry store"]
    assert found["verdict"] == "problem" and "cannot write" in found["found"], found
    assert SECRET not in doctor.stdout + doctor.stderr + region.output()

    wire.is_refusing = False
    settled(region)
    assert ask(region, "/readyz") == (200, "ok\n")
    doctor = run([binary(), "doctor", "--output", "json"], region.env | {"INBORN_TELEMETRY_STORE": url})
    found = {check["check"]: check for check in json.loads(doctor.stdout)["checks"]}["telemetry store"]
    assert found["verdict"] == "ok", found
    check_all_there(region, store, events, place, names)

    # What is only there is named while it cannot be asked.
    wire.is_refusing = True
    answer = region.cli("events", "--output", "json", check=False)
    assert answer.stdout == "" and ".parquet" in answer.stderr, answer
