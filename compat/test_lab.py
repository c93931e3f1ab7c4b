"""Machines where operators have them: in network namespaces and behind interfaces, asked at the true addresses.

Each test has a network of its own: a host with a running `inborn up`, guests on cables, containers a hop behind them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import NOBODY, SOON_SECONDS, scratch, wait_until
from lab import IPV4, IPV6, PATIENCE, Lab, LabRegion, Namespace, laboratory, needs_lab
from metadata import IDENTITY

pytestmark = needs_lab

TOKEN = "/latest/api/token"
TTL = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
ID = "/latest/meta-data/instance-id"


class World:
    """A host; two guests behind interfaces, with the same addresses; a machine that is a namespace; a container in the
    first guest, and one in the namespace."""

    def __init__(self, lab: Lab, host: Namespace, region: LabRegion):
        self.lab, self.host, self.region = lab, host, region
        self.guests = [lab.guest(host, "hg0", "g0"), lab.guest(host, "hg1", "g1")]
        self.inner = lab.namespace("inner")
        self.containers = {
            "interface": lab.container(self.guests[0], "c0"),
            "namespace": lab.container(self.inner, "c1"),
        }
        optional = ["--http-tokens", "optional"]
        self.ids = [
            region.launch("--name", "web-0", *optional, "--interface", "hg0"),
            region.launch("--name", "web-1", *optional, "--interface", "hg1"),
        ]
        self.inner_id = region.launch("--name", "inner", *optional, "--netns", self.inner.name)

    def machine(self, kind: str) -> tuple[str, Namespace, Namespace]:
        """The id of a machine, where its programs are, and where those of its container are."""
        if kind == "interface":
            return self.ids[0], self.guests[0], self.containers[kind]
        return self.inner_id, self.inner, self.containers[kind]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with scratch() as place:
        (place / "home").mkdir()
        with laboratory(place) as (lab, host, region):
            yield World(lab, host, region)


@pytest.fixture
def bare(place: Path) -> Iterator[tuple[Lab, Namespace, LabRegion]]:
    """A host without guests, for a test that treats it badly."""
    with laboratory(place) as parts:
        yield parts


def status(
    namespace: Namespace,
    method: str,
    path: str,
    headers: dict | None = None,
    endpoint: str = IPV4,
    patience: float = SOON_SECONDS,
):
    """The status of one request without a token of its own; nothing where no answer comes."""
    client = namespace.metadata(endpoint, version=1)
    try:
        return client.request(method, path, headers or {}, patience)[0]
    except OSError:
        return None


kinds = pytest.mark.parametrize("kind", ["interface", "namespace"])
families = pytest.mark.parametrize("endpoint", [IPV4, IPV6], ids=["ipv4", "ipv6"])


@contextlib.contextmanager
def options(world: World, instance: str, **changed) -> Iterator[None]:
    """Metadata options for a while."""
    before = {"HttpTokens": "optional", "HttpPutResponseHopLimit": 1, "HttpProtocolIpv6": "disabled"}
    world.region.modify(instance, HttpEndpoint="enabled", **changed)
    try:
        yield
    finally:
        world.region.modify(instance, HttpEndpoint="enabled", **before)


@kinds
def test_a_machine_is_told_of_itself(world: World, kind: str):
    instance, guest, _ = world.machine(kind)
    metadata = guest.metadata()
    assert metadata.get("meta-data/instance-id") == instance
    assert metadata.identity()["Type"] == "AWS-HMAC"


def test_two_guests_with_the_same_address_are_two_machines(world: World):
    one, two = (guest.metadata() for guest in world.guests)
    assert [one.get("meta-data/instance-id"), two.get("meta-data/instance-id")] == world.ids
    keys = {metadata.identity()["AccessKeyId"] for metadata in (one, two)}
    assert len(keys) == 2


def test_a_token_of_one_guest_is_nothing_at_another(world: World):
    token = {"X-aws-ec2-metadata-token": world.guests[0].metadata().token(60)}
    assert status(world.guests[0], "GET", ID, token) == 200
    assert status(world.guests[1], "GET", ID, token) == 401
    assert status(world.inner, "GET", ID, token) == 401


def test_a_spoofed_source_address_changes_nothing(world: World):
    """The first guest takes every address: of the other, of the host, of the metadata service."""
    guest = world.guests[0]
    for address in ["10.0.0.99", "192.168.7.7", "8.8.8.8"]:
        guest.ip("addr", "add", f"{address}/32", "dev", "eth0")
        guest.ip("route", "replace", "169.254.169.254/32", "dev", "eth0", "src", address)
        try:
            assert guest.who() == world.ids[0], address
        finally:
            guest.ip("route", "del", "169.254.169.254/32", "dev", "eth0")
            guest.ip("addr", "del", f"{address}/32", "dev", "eth0")


@families
def test_the_host_itself_is_no_machine(world: World, endpoint: str):
    """Neither by the address that it has itself now, nor bound to a guest's interface."""
    with options(world, world.ids[0], HttpProtocolIpv6="enabled"):
        assert status(world.host, "GET", ID, endpoint=endpoint, patience=PATIENCE) is None
        bound = world.host.do(
            lambda: subprocess.run(
                ["curl", "-s", "-m", "2", "--interface", "hg0", endpoint + ID], capture_output=True, text=True
            )
        )
        assert bound.stdout == "" and bound.returncode != 0


@kinds
@families
@pytest.mark.parametrize("limit", [1, 2, 64])
def test_the_hop_limit_is_that_of_the_token_alone(world: World, kind: str, endpoint: str, limit: int):
    instance, guest, container = world.machine(kind)
    with options(world, instance, HttpPutResponseHopLimit=limit, HttpProtocolIpv6="enabled"):
        assert status(guest, "PUT", TOKEN, TTL, endpoint) == 200
        expected, patience = (None, PATIENCE) if limit == 1 else (200, SOON_SECONDS)
        assert status(container, "PUT", TOKEN, TTL, endpoint, patience) == expected
        assert status(container, "GET", ID, endpoint=endpoint) == 200, "answers to GET are not limited"
        token = {"X-aws-ec2-metadata-token": guest.metadata(endpoint).token(60)}
        assert status(container, "GET", ID, token, endpoint) == 200


@kinds
def test_ipv6_is_off_until_it_is_turned_on(world: World, kind: str):
    instance, guest, _ = world.machine(kind)
    assert guest.hears_nobody(IPV6)
    with options(world, instance, HttpProtocolIpv6="enabled"):
        assert guest.who(IPV6) == instance
    assert guest.hears_nobody(IPV6)


@kinds
def test_a_disabled_endpoint_is_403_for_everything(world: World, kind: str):
    instance, guest, _ = world.machine(kind)
    world.region.modify(instance, HttpEndpoint="disabled")
    try:
        for method, path, headers in [("GET", ID, {}), ("PUT", TOKEN, TTL), ("GET", "/", {}), ("HEAD", "/nothing", {})]:
            assert status(guest, method, path, headers) == 403, (method, path)
    finally:
        world.region.modify(instance, HttpEndpoint="enabled")


@kinds
@pytest.mark.parametrize("name", ["X-Forwarded-For", "x-forwarded-for", "X-FORWARDED-FOR"])
def test_what_was_forwarded_gets_no_token(world: World, kind: str, name: str):
    _, guest, _ = world.machine(kind)
    forwarded = {name: "10.9.8.7"}
    token = {"X-aws-ec2-metadata-token": guest.metadata().token(60)}
    assert status(guest, "PUT", TOKEN, TTL | forwarded) == 403
    assert status(guest, "GET", ID, token | forwarded) == 403
    assert status(guest, "GET", ID, forwarded) == 200, "without a token it is served, as on EC2"


def test_head_slashes_and_versions(world: World):
    guest = world.guests[0]
    metadata = guest.metadata()
    for version in ["latest", "2021-03-23", "2018-09-24", "2016-09-02", "2009-04-04", "1.0"]:
        for path in [
            "meta-data/instance-id",
            "meta-data/instance-id/",
            "meta-data//instance-id",
            "meta-data",
            "meta-data/",
        ]:
            got = metadata.request("GET", f"/{version}/{path}", metadata.headers)
            head = metadata.request("HEAD", f"/{version}/{path}", metadata.headers)
            assert (got[0], head[0]) == (200, 200), (version, path)
            assert head[2] == b"" and int(head[1]["Content-Length"]) == len(got[2]), (version, path)
            if "instance-id" in path:
                assert got[2].decode() == world.ids[0]
    assert status(guest, "PUT", "/2021-03-23/api/token", TTL) == 403
    assert status(guest, "PUT", TOKEN + "/", TTL) == 403
    assert status(guest, "GET", "/1999-01-01/meta-data/instance-id") == 404


@kinds
def test_every_listed_leaf_answers(world: World, kind: str):
    _, guest, _ = world.machine(kind)
    metadata = guest.metadata()

    def crawl(path: str) -> int:
        code, _, body = metadata.request("GET", path, metadata.headers)
        assert code == 200, (path, code)
        if not path.endswith("/"):
            return 1
        entries = body.decode().split("\n")
        assert "" not in entries, (path, entries)
        # `public-keys/` lists `0=NAME` for the directory `0/`.
        names = [entry.split("=")[0] + "/" if "=" in entry else entry for entry in entries]
        return sum(crawl(path + name) for name in names)

    leaves = crawl("/latest/meta-data/") + crawl("/latest/dynamic/")
    assert leaves > 20
    assert metadata.get(f"meta-data/{IDENTITY}")


def test_what_describe_and_ps_tell(world: World):
    facts = world.region.describe("web-0")
    assert facts["metadata_endpoint"] == "http://169.254.169.254 through network interface hg0"
    assert facts["attachment"] == "interface: only what arrives through its network interface can ask"
    assert world.region.describe("inner")["attachment"].startswith(
        "namespace: only processes inside its network namespace"
    )
    listed = {line.split()[-1]: line.split()[3] for line in world.region.cli("ps").stdout.splitlines()}
    assert (listed["web-0"], listed["web-1"], listed["inner"]) == ("interface", "interface", "namespace")


def test_places_that_are_none_or_nobodys(world: World):
    def refusal(*flags: str) -> str:
        result = world.region.cli("launch", "--name", "refused", *flags, check=False)
        assert result.returncode == 1, result.stdout
        return result.stderr

    assert "is the place of machine " + world.ids[0] in refusal("--interface", "hg0")
    assert "this computer's own" in refusal("--netns", world.host.name)
    assert "there is no network interface none0: make it first" in refusal("--interface", "none0")
    assert "there is no network namespace /run/netns/no-such: make it first" in refusal("--netns", "no-such")
    assert "is not a network namespace" in refusal("--netns", "/dev/null")
    assert "every process of this computer is behind it" in refusal("--interface", "lo")
    assert "there is no network namespace of process 4194303" in refusal("--pid", "4194303")
    world.host.ip("link", "add", "br0", "type", "bridge")
    world.host.ip("link", "add", "p0", "type", "veth", "peer", "name", "p1")
    world.host.ip("link", "set", "p0", "master", "br0")
    try:
        assert "it is a bridge" in refusal("--interface", "br0")
        assert "it is a port of a bridge" in refusal("--interface", "p0")
    finally:
        world.host.ip("link", "del", "p0")
        world.host.ip("link", "del", "br0")
    assert "refused" not in world.region.cli("ps").stdout, "a machine that nobody can ask is not kept"


def test_the_namespace_of_a_process_until_it_ends(world: World):
    inside = world.lab.namespace("process")
    process = subprocess.Popen(["ip", "netns", "exec", inside.name, "sleep", "1000"])
    try:
        wait_until(
            lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", "`ip netns exec` has become sleep"
        )
        instance = world.region.launch("--name", "process", "--pid", str(process.pid))
        assert inside.who() == instance
        assert world.region.describe(instance)["metadata_endpoint"].endswith(f"process {process.pid}")
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: inside.hears_nobody(), "nobody answers in its namespace any more")
    wait_until(lambda: world.region.describe(instance)["metadata_endpoint"] is None, "it is not attached any more")
    assert "169.254.169.254" not in inside.ip("addr").stdout


def traces(*namespaces: Namespace) -> str:
    """Whatever of ours is in the network state of these namespaces."""
    found = ""
    for namespace in namespaces:
        found += "".join(line for line in namespace.ip("addr").stdout.splitlines() if "169.254.169.254" in line)
        found += "".join(line for line in namespace.ip("addr").stdout.splitlines() if "fd00:ec2::254" in line)
        found += "".join(line for line in namespace.ip("-6", "rule").stdout.splitlines() if "oif" in line)
        found += namespace.ip("-6", "route", "show", "table", "all").stdout.count("table 4539") * "route "
    return found


def test_detach_and_terminate_leave_nothing_behind(bare):
    lab, host, region = bare
    guest, inner = lab.guest(host, "hg0", "g0"), lab.namespace("inner")
    host.set("ipv4/conf/hg0/rp_filter", 2)
    one = region.launch("--name", "one", "--interface", "hg0")
    two = region.launch("--name", "two", "--netns", inner.name)
    assert (guest.who(), inner.who()) == (one, two)
    assert host.read("ipv4/conf/hg0/rp_filter") == "0"
    assert traces(host) and traces(inner)
    region.cli("detach", "one")
    assert traces(host) == "" and host.read("ipv4/conf/hg0/rp_filter") == "2"
    assert guest.hears_nobody()
    assert region.describe("one")["attachment"] == "none: nobody can ask in its name"
    region.cli("terminate", "two")
    assert inner.hears_nobody()
    wait_until(lambda: traces(inner) == "", "the address is gone from the namespace")
    # Another machine can have the place, and the first one another place.
    three = region.launch("--interface", "hg0")
    region.cli("attach", "one", "--netns", inner.name)
    assert (guest.who(), inner.who()) == (three, one)


def test_what_was_there_already_stays(bare):
    """Addresses that the operator has put there are not ours to take away."""
    lab, host, region = bare
    inner = lab.namespace("inner")
    inner.ip("addr", "add", "169.254.169.254/32", "dev", "lo")
    instance = region.launch("--netns", inner.name)
    assert inner.who() == instance
    region.cli("detach", instance)
    assert "169.254.169.254/32" in inner.ip("addr", "show", "lo").stdout
    assert "fd00:ec2::254" not in inner.ip("addr", "show", "lo").stdout


def test_a_device_that_was_made_again(bare):
    lab, host, region = bare
    lab.guest(host, "hg0", "g0")
    lab.guest(host, "hg1", "g1")
    kept = region.launch("--name", "kept", "--interface", "hg0")
    once = region.launch("--name", "once", "--interface", "hg1", "--once")
    for device in ["hg0", "hg1"]:
        host.ip("link", "del", device)
    wait_until(lambda: region.describe(kept)["attachment"].startswith("waiting: "), "its host notices")
    wait_until(lambda: region.describe(once)["attachment"].startswith("none: "), "its attachment is over")
    assert "oif" not in host.ip("-6", "rule").stdout
    again = [lab.guest(host, "hg0", "g2"), lab.guest(host, "hg1", "g3")]
    wait_until(lambda: again[0].who() == kept, "the machine is heard at the new device of the old name")
    assert again[1].hears_nobody(), "the next device of that name is not the machine's"
    assert region.cli("attach", "once", "--interface", "hg1").returncode == 0
    assert again[1].who() == once


def test_a_namespace_that_goes_is_let_go(bare):
    """Our listening socket would otherwise keep it, and the cables in it, alive."""
    lab, host, region = bare
    guest = lab.guest(host, "hg0", "g0")
    instance = region.launch("--name", "inner", "--netns", guest.name)
    assert guest.who() == instance
    guest.remove()
    gone = lambda: host.ip("link", "show", "hg0", check=False).returncode != 0  # noqa: E731
    wait_until(gone, "the cable goes with its other end")
    assert region.describe(instance)["attachment"].startswith("waiting: there is no network namespace")
    guest.make()
    wait_until(lambda: guest.who() == instance, "the machine is heard in the new namespace of the old name")


def told(region: LabRegion, guest: Namespace, instance: str) -> str:
    """The MAC in a machine's metadata: the same everywhere, and in what operators see."""
    metadata = guest.metadata()
    mac = metadata.get("meta-data/mac")
    assert metadata.get("meta-data/network/interfaces/macs/") == f"{mac}/"
    assert metadata.get(f"meta-data/network/interfaces/macs/{mac}/mac") == mac
    by_mac = [{"Name": "network-interface.mac-address", "Values": [mac]}]
    (reservation,) = region.call("describe_instances", Filters=by_mac)["Reservations"]
    (found,) = reservation["Instances"]
    assert (found["InstanceId"], found["NetworkInterfaces"][0]["MacAddress"]) == (instance, mac)
    return mac


def test_the_mac_is_that_of_the_interface_inside(bare):
    """What configures a network, such as cloud-init, looks for an interface with the MAC that metadata names."""
    lab, host, region = bare
    guest = lab.guest(host, "hg0", "g0")
    instance = region.launch("--name", "inner", "--netns", guest.name)
    assert told(region, guest, instance) == guest.mac("eth0")
    # Of several it is the one with the default route, whatever was made first.
    inner = lab.namespace("inner")
    lab.cable(host, "hg1", inner, "spare")
    lab.cable(host, "hg2", inner, "eth0")
    other = region.launch("--name", "other", "--netns", inner.name)
    assert told(region, inner, other) == inner.mac("spare")
    inner.ip("route", "add", "default", "dev", "eth0")
    region.cli("attach", "other", "--netns", inner.name)
    assert told(region, inner, other) == inner.mac("eth0")
    # A restart keeps what it finds, and what it was told.
    region.cli("attach", "other", "--netns", inner.name, "--mac", "02:00:5E:00:53:01")
    assert told(region, inner, other) == "02:00:5e:00:53:01"
    region.stop()
    region.start()
    assert told(region, guest, instance) == guest.mac("eth0")
    assert told(region, inner, other) == "02:00:5e:00:53:01"
    # The next namespace of that name has another interface; one without any, the made one.
    before = guest.mac("eth0")
    guest.remove()
    wait_until(lambda: region.describe(instance)["attachment"].startswith("waiting: "), "its host notices")
    guest.make()
    wait_until(lambda: guest.who() == instance, "the machine is heard in the new namespace")
    wait_until(lambda: guest.metadata().get("meta-data/mac") != before, "and has no interface there")
    assert guest.metadata().get("meta-data/mac").startswith("02:")


def test_the_mac_behind_an_interface_is_told(bare):
    lab, host, region = bare
    guest = lab.guest(host, "hg0", "g0")
    instance = region.launch("--name", "web", "--interface", "hg0", "--mac", guest.mac("eth0"))
    assert told(region, guest, instance) == guest.mac("eth0")
    region.cli("attach", "web", "--interface", "hg0")
    made = told(region, guest, instance)
    assert made not in (guest.mac("eth0"), host.mac("hg0")), "the host's end is not the machine's"
    region.cli("attach", "web", "--interface", "hg0", "--mac", guest.mac("eth0"))
    assert told(region, guest, instance) == guest.mac("eth0")
    region.cli("detach", "web")
    (reservation,) = region.call("describe_instances", InstanceIds=[instance])["Reservations"]
    assert reservation["Instances"][0]["NetworkInterfaces"][0]["MacAddress"] == made
    refused = region.cli("attach", "web", "--interface", "hg0", "--mac", "01:00:5e:00:53:01", check=False)
    assert refused.returncode == 2 and "not a group's" in refused.stderr


def test_attachments_survive_a_restart_and_a_kill(bare):
    lab, host, region = bare
    guest, inner, gone = lab.guest(host, "hg0", "g0"), lab.namespace("inner"), lab.namespace("gone")
    one = region.launch("--name", "one", "--interface", "hg0")
    two = region.launch("--name", "two", "--netns", inner.name)
    three = region.launch("--name", "three", "--netns", gone.name)
    four = region.launch("--name", "four", "--netns", lab.namespace("once").name, "--once")
    region.stop()
    assert traces(host, inner) == "", "a clean stop takes everything along"
    assert not (region.data / "network.json").exists()
    region.start()
    assert (guest.who(), inner.who()) == (one, two)
    region.kill()
    assert traces(host) and (region.data / "network.json").exists()
    gone.remove()
    lab.namespaces[-1].remove()
    lab.namespaces[-1].make()
    region.start()
    assert (guest.who(), inner.who()) == (one, two)
    assert region.describe(three)["attachment"].startswith("waiting: there is no network namespace")
    assert region.describe(four)["attachment"].startswith("none: "), (
        "another namespace of that name is not the machine's"
    )
    assert lab.namespaces[-1].hears_nobody()
    # What a killed process has left is taken away also if nobody needs it any more.
    region.cli("detach", "one")
    region.cli("detach", "two")
    assert traces(host, inner) == ""


def test_a_kill_leaves_nothing_that_the_next_start_does_not_clean(bare):
    lab, host, region = bare
    lab.guest(host, "hg0", "g0")
    region.launch("--name", "one", "--interface", "hg0", "--once")
    region.kill()
    assert traces(host)
    host.ip("link", "del", "hg0")
    assert traces(host), "the rule and the address on the loopback interface stay"
    region.start()
    assert traces(host) == ""


def test_attaching_and_detaching_at_once_never_mixes_machines(bare):
    """Two machines take turns at one place while a guest asks and asks: it hears one of them, or nobody."""
    lab, host, region = bare
    guest = lab.guest(host, "hg0", "g0")
    optional = ["--http-tokens", "optional"]
    names = {name: region.launch("--name", name, *optional) for name in ["one", "two"]}
    heard: list[str | None] = []
    over = threading.Event()
    attached: list[tuple[str, str | None]] = []

    def ask() -> None:
        while not over.is_set():
            heard.append(guest.who(tries=1))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(2):
            for name, instance in names.items():
                region.cli("attach", name, "--interface", "hg0")
                attached.append((instance, guest.who()))
                region.cli("detach", name)
                attached.append(("nobody", guest.who(tries=1) or "nobody"))
    finally:
        over.set()
        asking.join()
    assert all(expected == found for expected, found in attached), attached
    assert set(heard) <= {*names.values(), None}


def test_without_privileges_the_capability_is_named(bare, place: Path):
    """An `up` of an ordinary user attaches to loopback and says what it lacks for more."""
    lab, host, region = bare
    guest = lab.guest(host, "hg0", "g0")
    data = place / "nobody"
    data.mkdir(mode=0o700)
    os.chown(data, NOBODY, NOBODY)
    (place / "home").chmod(0o777)
    program = place / "inborn"
    shutil.copy(region.program, program)
    program.chmod(0o755)
    theirs = LabRegion(host, data, place / "home")
    theirs.program = program
    theirs.command_prefix = [
        *theirs.command_prefix,
        *["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--inh-caps=-all"],
    ]
    try:
        theirs.start()
        launch = ["launch", "--output", "json"]
        refused = theirs.cli(*launch, "--interface", "hg0", check=False)
        assert refused.returncode == 1 and "`inborn up` needs CAP_NET_ADMIN and CAP_NET_BIND_SERVICE" in refused.stderr
        refused = theirs.cli(*launch, "--netns", guest.name, check=False)
        assert refused.returncode == 1 and "`inborn up` needs CAP_SYS_ADMIN, CAP_NET_ADMIN" in refused.stderr
        assert json.loads(theirs.cli(*launch).stdout)["metadata_endpoint"].startswith("http://127.0.0.1:")
        assert traces(host) == ""
    finally:
        theirs.kill()
