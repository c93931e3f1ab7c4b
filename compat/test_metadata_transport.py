"""What is below HTTP: the hop limit of tokens, the IPv6 endpoint, and one guest's load beside another's work."""

from __future__ import annotations

import concurrent.futures
import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import INSIDE, INSTANCE_ID, Region, at_best_within, binary, boto_client, read_exports, wait_until
from inside.hops import REQUESTS, ask
from metadata import Metadata

IPV4, IPV6 = "169.254.169.254", "fd00:ec2::254"
#: The TTL of every packet that nobody asked to be limited.
USUAL = 64


def ec2(region: Region):
    return boto_client("ec2", region.endpoint, region.name, region.operator())


def launch(region: Region) -> tuple[str, int]:
    """A machine that also answers version 1, and its port."""
    exports = read_exports(region.cli("launch", "--http-tokens", "optional", "--export").stdout)
    return exports["INSTANCE_ID"], int(exports["AWS_EC2_METADATA_SERVICE_ENDPOINT"].rsplit(":", 1)[1].rstrip("/"))


def start_inside(region: Region, *command: str | Path) -> tuple[str, subprocess.Popen[str]]:
    """A machine that runs `command`, by its instance id, and the process."""
    words = [binary(), "run", "--http-tokens", "optional", "--", "sh", "-c", 'echo "$INSTANCE_ID"; exec "$0" "$@"']
    pipe = subprocess.PIPE
    process = subprocess.Popen([*words, *command], env=region.env, stdin=pipe, stdout=pipe, text=True)
    instance = process.stdout.readline().strip()
    assert INSTANCE_ID.match(instance), instance
    return instance, process


class Inside:
    """A pocket with a client in it that asks when it is told to."""

    def __init__(self, region: Region):
        self.instance, self.process = start_inside(region, sys.executable, INSIDE / "hops.py")

    def ask(self, host: str, method: str, hops: int) -> str:
        self.process.stdin.write(f"{host} 80 {method} {hops}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the command has ended: {self.process.wait(10)}"
        return line.strip()

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(10) == 0


@pytest.fixture
def inside(region: Region) -> Iterator[Inside]:
    inside = Inside(region)
    yield inside
    inside.end()


def answer(asking: Callable[[str, int], str], method: str, hops: int) -> str:
    """What is answered to who expects it. A busy computer may take longer than it takes to know that nothing comes."""
    for _ in range(3):
        told = asking(method, hops)
        if told != "nothing":
            break
    return told


def expect_limit(asking: Callable[[str, int], str], limit: int):
    """A token gets over as many hops as it may and not one more, everything else over any."""
    assert answer(asking, "PUT", limit) == "200", limit
    if limit < USUAL:
        assert asking("PUT", limit + 1) == "nothing", limit
    assert answer(asking, "GET", USUAL) == "200", limit


def test_the_hop_limit_is_that_of_the_packets_with_the_token(region: Region):
    instance, port = launch(region)
    expect_limit(lambda method, hops: ask("127.0.0.1", port, method, hops), 1)
    for limit in (2, 63, 64):
        ec2(region).modify_instance_metadata_options(
            InstanceId=instance, HttpEndpoint="enabled", HttpPutResponseHopLimit=limit
        )
        expect_limit(lambda method, hops: ask("127.0.0.1", port, method, hops), limit)


def test_a_token_that_nobody_gets_leaves_no_socket_behind(region: Region):
    _, port = launch(region)
    assert ask("127.0.0.1", port, "PUT", 2) == "nothing"

    def unacknowledged() -> bool:
        """Whether a socket of the server still waits for somebody to take what it sent."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        local = f"0100007F:{port:04X}"
        return any(row[1] == local and int(row[4].split(":")[0], 16) > 0 for row in rows)

    # A busy server may answer only now.
    wait_until(unacknowledged, "the kernel sends it again")
    wait_until(lambda: not unacknowledged(), "the kernel to give up", seconds=30)


def test_in_a_pocket_both_protocols_have_the_limit(region: Region, inside: Inside):
    enable = {"InstanceId": inside.instance, "HttpEndpoint": "enabled", "HttpProtocolIpv6": "enabled"}
    for limit in (1, 2):
        ec2(region).modify_instance_metadata_options(**enable, HttpPutResponseHopLimit=limit)
        for address in (IPV4, IPV6):
            expect_limit(lambda method, hops, host=address: inside.ask(host, method, hops), limit)


def test_the_ipv6_endpoint_is_there_while_it_is_enabled(region: Region, inside: Inside):
    def modify(**options):
        ec2(region).modify_instance_metadata_options(InstanceId=inside.instance, HttpEndpoint="enabled", **options)

    def asked(address: str, method: str) -> str:
        return answer(lambda method, hops: inside.ask(address, method, hops), method, 1)

    assert asked(IPV6, "PUT") == "refused", "off unless somebody turns it on, as on EC2"
    assert asked(IPV4, "PUT") == "200"
    modify(HttpProtocolIpv6="enabled")
    assert asked(IPV6, "PUT") == "200"
    assert asked(IPV6, "GET") == "200"
    modify(HttpProtocolIpv6="disabled")
    assert asked(IPV6, "GET") == "refused"
    assert asked(IPV4, "GET") == "200"


def test_botocore_reads_its_region_over_ipv6(region: Region):
    """With the SDKs' own switch."""
    script = """
import os, sys
from botocore.session import Session
from botocore.utils import IMDSRegionProvider
sys.stdin.readline()
os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"] = "IPv6"
# By itself it waits for one second, once.
os.environ |= {"AWS_METADATA_SERVICE_TIMEOUT": "5", "AWS_METADATA_SERVICE_NUM_ATTEMPTS": "3"}
print(IMDSRegionProvider(Session()).provide())
"""
    instance, process = start_inside(region, sys.executable, "-c", script)
    ec2(region).modify_instance_metadata_options(
        InstanceId=instance, HttpEndpoint="enabled", HttpProtocolIpv6="enabled"
    )
    out, _ = process.communicate("go\n", timeout=60)
    assert (process.returncode, out.strip()) == (0, region.name)


def test_a_guest_that_asks_too_much_waits_and_no_other_does(make_region: Callable[..., Region]):
    region = make_region("slow", "--metadata-rate", "100").start()
    _, busy = launch(region)
    quiet, port = launch(region)

    def waited(_: int) -> float:
        """How long the other one does during a flood, in the middle of its requests."""
        stop = time.monotonic() + 3
        answered = []

        def flood():
            with socket.create_connection(("127.0.0.1", busy), timeout=10) as connection:
                request = REQUESTS["GET"].replace("Connection: close\r\n", "").encode()
                while time.monotonic() < stop:
                    connection.sendall(request)
                    assert connection.recv(4096).startswith(b"HTTP/1.1 200 "), "it waits, and is answered"
                    answered.append(None)

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            floods = [pool.submit(flood) for _ in range(8)]
            times = []
            while time.monotonic() < stop:
                begin = time.monotonic()
                assert Metadata(f"http://127.0.0.1:{port}", version=1).get("meta-data/instance-id") == quiet
                times.append(time.monotonic() - begin)
                time.sleep(0.05)
            for each in floods:
                each.result()
        # A burst of a fifth of a second's worth, then the rate.
        assert len(answered) <= 20 + 100 * 3 + 100, len(answered)
        return sorted(times)[len(times) // 2]

    at_best_within(0.25, waited)
    with urllib.request.urlopen(region.ready["operations"] + "/metrics", timeout=5) as answer:
        metrics = answer.read().decode()
    assert 'inborn_imds_throttled_total{outcome="delayed"}' in metrics
    refused = 'inborn_imds_throttled_total{outcome="refused"}'
    assert refused not in metrics, "eight connections never wait as long as that"


def attach(region: Region, instance: str) -> int:
    """What `inborn launch` asks of the control socket, without a process for each."""
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(region.data / "control.sock"))
        control.sendall(json.dumps({"verb": "attach_loopback", "instance": instance}).encode() + b"\n")
        answer = json.loads(control.makefile().readline())
    assert answer["answer"] == "loopback", answer
    return answer["port"]


def threads(region: Region) -> int:
    status = Path(f"/proc/{region.pid}/status").read_text()
    return int(re.search(r"^Threads:\s+(\d+)", status, re.M).group(1))


def test_a_thousand_machines_fit(make_region: Callable[..., Region]):
    region = make_region("many").start()
    before = threads(region)
    client = ec2(region)
    launched = client.run_instances(ImageId="ami-12345678", InstanceType="m5.large", MinCount=1000, MaxCount=1000)
    ports = {each["InstanceId"]: attach(region, each["InstanceId"]) for each in launched["Instances"]}
    for instance, port in list(ports.items())[::50]:
        assert Metadata(f"http://127.0.0.1:{port}").get("meta-data/instance-id") == instance
    assert region.resident_kib() <= 150 * 1024
    # The pool for work that blocks may have grown; no machine has a thread of its own.
    assert threads(region) - before < 50


def test_memory_stays_flat_under_128_clients(make_region: Callable[..., Region]):
    region = make_region("flat", "--metadata-rate", "0").start()
    _, port = launch(region)

    def ask_for(seconds: float):
        stop = time.monotonic() + seconds
        keep = REQUESTS["GET"].replace("Connection: close\r\n", "").encode()
        streams = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(128)]
        while time.monotonic() < stop:
            for stream in streams:
                stream.sendall(keep)
            for stream in streams:
                assert stream.recv(4096).startswith(b"HTTP/1.1 200 ")
        for stream in streams:
            stream.close()

    ask_for(1)
    before, deadline = region.resident_kib(), time.monotonic() + 10
    # What a region makes once is made by many requests, and a slow computer has few of them in a second.
    while time.monotonic() < deadline:
        ask_for(1)
        last, before = before, region.resident_kib()
        if abs(before - last) < 256:
            break
    for _ in range(3):
        ask_for(1)
    assert region.resident_kib() - before < 4 * 1024
