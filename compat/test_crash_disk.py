"""The process is killed, the disk is full: what was answered stays true."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from harness import ROOT, Region, read_exports, wait_until
from metadata import Metadata, while_held

KILLS = 12
DISK_MIB = 24
IMAGE = {"ImageId": "ami-0123456789abcdef0"}


def everything(region: Region) -> dict[str, str]:
    """Every instance and its state, as DescribeInstances tells it."""
    pages = region.client("ec2").get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 1000})
    instances = (instance for page in pages for r in page["Reservations"] for instance in r["Instances"])
    return {instance["InstanceId"]: instance["State"]["Name"] for instance in instances}


class Launcher(threading.Thread):
    """Launches and terminates until the region is gone; remembers only what was answered."""

    def __init__(self, region: Region):
        super().__init__(daemon=True)
        self.client = region.client("ec2")
        self.launched: list[str] = []
        self.terminated: list[str] = []
        self.unsure: set[str] = set()

    def run(self):
        with contextlib.suppress(BotoCoreError, ClientError, OSError):
            while True:
                answer = self.client.run_instances(**IMAGE, MinCount=2, MaxCount=2)
                self.launched += [instance["InstanceId"] for instance in answer["Instances"]]
                victim = self.launched[-1]
                self.unsure.add(victim)
                self.client.terminate_instances(InstanceIds=[victim])
                self.terminated.append(victim)
                self.unsure.discard(victim)


@pytest.mark.timeout(300)
def test_kill_nine_loses_no_acknowledged_launch(make_region: Callable[..., Region]):
    region = make_region().start()
    first = read_exports(region.cli("launch", "--name", "witness", "--export").stdout)
    credentials = Metadata(first["AWS_EC2_METADATA_SERVICE_ENDPOINT"]).identity()
    launched: set[str] = {first["INSTANCE_ID"]}
    terminated: set[str] = set()
    unsure: set[str] = set()
    for _ in range(KILLS):
        workers = [Launcher(region) for _ in range(3)]
        for worker in workers:
            worker.start()
        time.sleep(random.uniform(0.05, 0.6))
        region.kill()
        for worker in workers:
            worker.join(30)
            launched.update(worker.launched)
            terminated.update(worker.terminated)
            unsure |= worker.unsure

        region.start()
        states = everything(region)
        assert launched - states.keys() == set(), "launches that were answered are gone"
        assert {one for one in terminated if states[one] != "terminated"} == set(), "the dead live again"
        alive = launched - terminated - unsure
        assert {one for one in alive if states[one] != "running"} == set(), "the living are dead"
        who = region.client("sts", credentials).get_caller_identity()["Arn"]
        assert who.endswith(first["INSTANCE_ID"]), "a credential from before the kill"
    assert len(launched) > KILLS, "hardly anything was launched: the test tested nothing"


@pytest.mark.timeout(120)
def test_kill_nine_in_the_first_start_is_mended_by_the_next(make_region: Callable[..., Region], place: Path):
    for attempt in range(10):
        region = make_region(f"young-{attempt}")
        with (place / "log").open("a") as log:
            process = subprocess.Popen(region.command(place / "none.json"), env=region.env, stdout=log, stderr=log)
        time.sleep(0.01 * attempt)
        process.kill()
        process.wait()
        region.start()
        assert region.client("sts").get_caller_identity()["Account"] == region.account
        region.stop()


@pytest.fixture
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    if not ROOT:
        pytest.skip("only root may mount a small file system to fill")
    disk = place / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(disk)], check=True)
    yield disk
    # The region that the test started is stopped by its own fixture, which ends after this one: detach at once.
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Uses up every byte."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)
    assert os.statvfs(disk).f_bavail == 0
    return filler


@pytest.mark.timeout(240)
def test_a_full_disk_refuses_launches_and_nothing_else(make_region: Callable[..., Region], small_disk: Path):
    region = make_region(data=small_disk / "data").start()
    machine = read_exports(region.cli("launch", "--name", "old", "--export").stdout)
    endpoint = machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
    metadata = Metadata(endpoint)
    filler = fill(small_disk)

    ec2 = region.client("ec2")
    accepted: list[str] = []
    refused: ClientError | None = None
    for _ in range(2_000):
        # What was set aside for such a day may carry a few launches more.
        try:
            answer = ec2.run_instances(**IMAGE, MinCount=1, MaxCount=1)
            accepted.append(answer["Instances"][0]["InstanceId"])
        except ClientError as error:
            refused = error
            break
    assert refused is not None, "2,000 launches on a full disk"
    status = refused.response["ResponseMetadata"]["HTTPStatusCode"]
    assert status in (500, 503), refused
    assert refused.response["Error"]["Message"]

    def served_and_let_in(held: dict[str, str]) -> bool:
        return all(
            metadata.identity() == held
            and region.client("sts", held).get_caller_identity()["Account"] == region.account
            for _ in range(20)
        )

    assert while_held(endpoint, served_and_let_in)[0]
    result = region.cli("launch", "--name", "new", check=False)
    assert result.returncode != 0
    assert "panicked" not in region.output() + result.stderr

    filler.unlink()

    def launches_again() -> bool:
        with contextlib.suppress(ClientError):
            return bool(ec2.run_instances(**IMAGE, MinCount=1, MaxCount=1)["Instances"])
        return False

    wait_until(launches_again, "launches work again once there is room")
    region.kill()
    region.start()
    assert set(accepted) - everything(region).keys() == set()
