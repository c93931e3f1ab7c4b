"""OpenTunnel and `inborn ssh`: to machines that have no other way in, with a real sshd and ssh."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.httpsession import URLLib3Session
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from harness import INSIDE, Result, binary, clean_env, run, scratch, wait_until
from lab import Lab, LabRegion, Namespace, laboratory, needs_lab
from metadata import IDENTITY
from openssh import Server, host_keys, is_safe, keygen, server
from tunnel import MESSAGE_BYTES_MAX, link, open_link

pytestmark = needs_lab
HERE = Path(__file__).parent


class World:
    """A host with an `up`; a machine that is a namespace without any network, and one behind an interface."""

    def __init__(self, lab: Lab, host: Namespace, region: LabRegion, place: Path):
        self.lab, self.host, self.region, self.place = lab, host, region, place
        self.inner = lab.namespace("inner")
        self.inner_id = region.launch("--name", "inner", "--netns", self.inner.name)
        self.guest = lab.guest(host, "hg0", "g0")
        self.guest_id = self.at("10.0.0.2")
        region.cli("attach", self.guest_id, "--interface", "hg0")
        self.key = keygen(place / "id_ed25519")

    def at(self, address: str) -> str:
        """A machine with this address."""
        launched = self.region.call(
            "run_instances", ImageId="ami-0123456789abcdef0", MinCount=1, MaxCount=1, PrivateIpAddress=address
        )
        return launched["Instances"][0]["InstanceId"]

    def address(self, machine: str) -> str:
        found = self.region.call("describe_instances", InstanceIds=[machine])
        return found["Reservations"][0]["Instances"][0]["PrivateIpAddress"]

    def endpoint(self) -> dict:
        filters = [{"Name": "state", "Values": ["create-complete"]}]
        return self.region.call("describe_instance_connect_endpoints", Filters=filters)["InstanceConnectEndpoints"][0]

    def operator(self) -> Credentials:
        variables = self.region.operator()
        return Credentials(variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"])

    def open(self, address: str, credentials: Credentials | None = None, **more: object) -> ClientConnection:
        """A tunnel, as the AWS CLI opens it."""
        parameters = {
            "instanceConnectEndpointId": self.endpoint()["InstanceConnectEndpointId"],
            "remotePort": 22,
            "privateIpAddress": address,
            **more,
        }
        url = link(self.region.endpoint, self.region.name, credentials or self.operator(), **parameters)
        return self.host.do(lambda: open_link(url))

    def publish(self, machine: str, namespace: Namespace, keys: Path) -> None:
        """What the old script sends from inside, sent from the host: the guests have no way to the region."""
        read = namespace.metadata().get
        document = json.loads(read("dynamic/instance-identity/document"))
        key = json.loads(read(f"meta-data/{IDENTITY}"))
        body = {
            "AccountID": document["accountId"],
            "AvailabilityZone": document["availabilityZone"],
            "HostKeys": [file.read_text().strip() for file in sorted(keys.glob("ssh_host_*_key.pub"))],
            "InstanceId": machine,
        }
        request = AWSRequest("POST", f"{self.region.endpoint}/PutEC2HostKeys/", data=json.dumps(body))
        request.headers["Content-Type"] = "application/json"
        credentials = Credentials(key["AccessKeyId"], key["SecretAccessKey"], key["Token"])
        SigV4Auth(credentials, "ec2-instance-connect", self.region.name).add_auth(request)
        reply = self.host.do(lambda: URLLib3Session().send(request.prepare()))
        assert reply.status_code == 200, reply.text

    @contextlib.contextmanager
    def sshd(self, machine: str, namespace: Namespace) -> Iterator[None]:
        """An sshd in a guest, whose host key the region knows."""
        with server(self.place, self.published(machine, namespace), self.key, inside=namespace):
            yield

    def published(self, machine: str, namespace: Namespace) -> Path:
        """The host key of a guest."""
        keys = self.place / f"keys-{machine}"
        if not keys.exists():
            self.publish(machine, namespace, host_keys(keys, "ed25519"))
        return keys

    def login(self, command: str, *words: str, check: bool = False) -> Result:
        """`inborn ssh` or `inborn scp`, by the host's operator, with a standing key."""
        home = self.place / "operator"
        home.mkdir(exist_ok=True)
        env = {**self.region.env, **clean_env(home), "LOGNAME": "root", "TMPDIR": str(home)}
        argv = [
            *self.region.command_prefix,
            binary(),
            command,
            "--data",
            self.region.data,
            "-o",
            "BatchMode=yes",
            *words,
        ]
        return run(argv, env, check=check, timeout=60)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with scratch() as place:
        (place / "home").mkdir()
        with laboratory(place) as (lab, host, region):
            yield World(lab, host, region, place)


@contextlib.contextmanager
def listener(namespace: Namespace, address: str, serve) -> Iterator[None]:
    """Port 22 of an address inside a namespace; `serve(connection)` has a thread for each."""
    listening = namespace.do(lambda: socket.create_server((address, 22)))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(5)


def greet(connection: socket.socket) -> None:
    """Says hello and waits."""
    with connection:
        connection.sendall(b"hello")
        connection.recv(1)


def closing(opened: ClientConnection) -> tuple[int, str]:
    """Code and reason of the end."""
    with opened as tunnel, pytest.raises(ConnectionClosed) as ended:
        while True:
            tunnel.recv(timeout=20)
    return ended.value.rcvd.code, ended.value.rcvd.reason


def test_ssh_to_a_machine_without_any_network(world: World):
    with world.sshd(world.inner_id, world.inner):
        words = ["--identity", str(world.key)]
        inside = world.login("ssh", *words, "inner", "--", "echo inside; ip -o link | wc -l; exit 7")
        assert (inside.returncode, inside.stdout, inside.stderr) == (7, "inside\n1\n", "")
        by_id = world.login("ssh", *words, f"root@{world.inner_id}", "--", "cat /proc/self/comm")
        assert by_id.stdout == "cat\n", by_id.stderr
        # What comes after -- is the command's, also what looks like a flag.
        assert world.login("ssh", *words, "inner", "--", "echo", "-n", "--data").stdout == "--data"
        source = world.place / "file"
        source.write_bytes(os.urandom(3_000_000))
        world.login("scp", *words, str(source), f"inner:{world.place}/there", check=True)
        assert (world.place / "there").read_bytes() == source.read_bytes()
        world.login("scp", *words, f"root@inner:{world.place}/there", f"{world.place}/back", check=True)
        assert (world.place / "back").read_bytes() == source.read_bytes()
    lines = [line for line in world.region.audit() if line["eventName"] == "OpenTunnel"]
    assert lines[-1]["requestParameters"]["privateIpAddress"] == world.address(world.inner_id)
    assert lines[-1]["eventSource"] == "ec2-instance-connect.amazonaws.com" and not lines[-1]["readOnly"]


@contextlib.contextmanager
def asks_for_keys(world: World, namespace: Namespace, machine: str) -> Iterator[Server]:
    """An sshd in a guest that lets in whoever was sent to it, and nobody else."""
    with tempfile.TemporaryDirectory(prefix="inborn-compat-", dir="/run") as directory:
        safe = Path(directory)
        safe.chmod(0o755)
        program = safe / "inborn"
        if all(is_safe(part) for part in [binary(), *binary().resolve().parents]):
            program = binary().resolve()
        else:
            shutil.copy(binary(), program)
        root = safe / "instance-connect.pem"
        root.write_text(world.region.cli("ca", "show", "instance-connect").stdout)
        asks = f"AuthorizedKeysCommand {program} authorized-keys --root {root} %u %f"
        more = (asks, "AuthorizedKeysCommandUser nobody")
        with server(world.place, world.published(machine, namespace), None, *more, inside=namespace) as sshd:
            yield sshd


def test_one_command_and_no_standing_key(world: World):
    """The whole way: a new key sent, the machine asked for it by sshd, its host key known, and the tunnel between."""
    with asks_for_keys(world, world.inner, world.inner_id) as sshd:
        login = world.login("ssh", "root@inner", "--", "echo", "inside")
        assert (login.returncode, login.stdout, login.stderr) == (0, "inside\n", ""), sshd.log.read_text()
        (world.place / "sent").write_text("by a key of a minute")
        world.login("scp", str(world.place / "sent"), f"root@inner:{world.place}/arrived", check=True)
        assert (world.place / "arrived").read_text() == "by a key of a minute"
        standing = world.login("ssh", "--identity", str(world.key), "root@inner", "--", "id")
        assert standing.returncode == 255 and "Permission denied" in standing.stderr
        # Nothing is left of the keys, here or there.
        assert [path.name for path in (world.place / "operator").iterdir() if path.name != ".cache"] == []
    names = [line["eventName"] for line in world.region.audit()]
    assert names.index("SendSSHPublicKey") < names.index("OpenTunnel", names.index("SendSSHPublicKey"))
    gone = world.login("ssh", "nobody-such@inner", "--", "id")
    assert gone.returncode == 255


def test_ssh_to_a_machine_behind_an_interface(world: World):
    with world.sshd(world.guest_id, world.guest):
        inside = world.login("ssh", "--identity", str(world.key), world.guest_id, "--", "ip -br addr show eth0")
        assert "10.0.0.2/24" in inside.stdout, inside.stderr


def test_a_host_that_has_another_key_is_refused(world: World, place: Path):
    world.published(world.inner_id, world.inner)
    with server(place, host_keys(place / "other", "ed25519"), world.key, inside=world.inner):
        login = world.login("ssh", "--identity", str(world.key), "-o", "StrictHostKeyChecking=no", "inner", "--", "id")
    assert (login.returncode, login.stdout) == (255, "")
    assert "HOST IDENTIFICATION HAS CHANGED" in login.stderr or "Host key verification failed" in login.stderr


def test_mistakes_are_told_with_what_to_do(world: World):
    for words, said in [
        (["nobody"], "there is no machine nobody: see `inborn ps`"),
        (["$(id)@inner"], "no name of a user"),
        (["a b@inner"], "no name of a user"),
    ]:
        login = world.login("ssh", "--identity", str(world.key), *words)
        assert login.returncode == 1 and said in login.stderr, login.stderr
    assert "name a machine" in world.login("scp", "a", "b").stderr
    assert "only one machine" in world.login("scp", "inner:a", f"{world.guest_id}:b").stderr
    # Nobody listens: ssh says it in its way, and the tunnel why.
    login = world.login("ssh", "--identity", str(world.key), "inner", "--", "id")
    assert login.returncode == 255 and "Unable to connect to target: port 22: Connection refused" in login.stderr


def test_a_hundred_megabytes_each_way(world: World):
    total = 100_000_000
    piece = os.urandom(1_000_000)
    expected = hashlib.sha256(piece * (total // len(piece))).hexdigest()
    seen = {}

    def serve(connection: socket.socket) -> None:
        with connection:
            digest = hashlib.sha256()
            while part := connection.recv(1 << 16):
                digest.update(part)
            seen["up"] = digest.hexdigest()

    with listener(world.inner, "0.0.0.0", serve):
        # All that was sent is delivered before the end.
        with world.open(world.address(world.inner_id)) as tunnel:
            for _ in range(total // len(piece)):
                for start in range(0, len(piece), MESSAGE_BYTES_MAX):
                    tunnel.send(piece[start : start + MESSAGE_BYTES_MAX])
        wait_until(lambda: seen.get("up"), "the machine has read all", 30)
    assert seen["up"] == expected

    def pour(connection: socket.socket) -> None:
        with connection:
            for _ in range(total // len(piece)):
                connection.sendall(piece)

    with listener(world.inner, "0.0.0.0", pour), world.open(world.address(world.inner_id)) as tunnel:
        digest = hashlib.sha256()
        for part in tunnel:
            assert isinstance(part, bytes) and len(part) <= MESSAGE_BYTES_MAX
            digest.update(part)
        assert tunnel.protocol.close_rcvd.code == 1000
    assert digest.hexdigest() == expected


def test_only_what_listens_at_the_machines_own_address_is_reached(world: World):
    address = world.address(world.inner_id)
    with listener(world.inner, "127.0.0.1", greet):
        code, reason = closing(world.open(address))
        assert code == 1011 and "Connection refused" in reason
    with listener(world.inner, "0.0.0.0", greet), world.open(address) as tunnel:
        assert tunnel.recv(timeout=20) == b"hello"
    assert f"inet {address}/32" in world.inner.ip("addr", "show", "lo").stdout


def test_an_address_of_this_computer_is_not_a_machines(world: World):
    """Whoever launches a machine chooses its address: it must not be a way to the host's own services."""
    host = world.lab.guest(world.host, "hg1", "g1")
    world.host.ip("addr", "add", "10.0.0.77/32", "dev", "hg1")
    machine = world.at("10.0.0.77")
    world.region.cli("attach", machine, "--interface", "hg1")
    with listener(world.host, "0.0.0.0", greet):
        code, reason = closing(world.open("10.0.0.77"))
    assert code == 1011 and "this computer itself has" in reason
    assert host.do(lambda: True)
    # Nor is one that is everybody's: nobody is at the other end of a machine that was launched to have it.
    for address in ("0.0.0.0", "127.0.0.1", "169.254.169.254"):
        odd = world.at(address)
        world.region.cli("attach", odd, "--netns", world.lab.namespace("odd").name)
        with listener(world.host, "0.0.0.0", greet):
            code, reason = closing(world.open(address))
        assert code == 1011 and "not one that a machine can have" in reason, address
        world.region.cli("terminate", odd)
        world.lab.namespaces.pop().remove()
    # An interface whose far end is named to it: that address is the machine's.
    world.lab.guest(world.host, "hg2", "g2", 9)
    world.host.ip("addr", "add", "10.0.0.78", "peer", "10.0.0.9", "dev", "hg2")
    far = world.at("10.0.0.9")
    world.region.cli("attach", far, "--interface", "hg2")
    with listener(world.lab.namespaces[-1], "0.0.0.0", greet), world.open("10.0.0.9") as tunnel:
        assert tunnel.recv(timeout=20) == b"hello"
    # And a machine that is only a port of this computer is no way to it either.
    world.region.cli("terminate", machine)
    machine = world.region.launch()
    code, reason = closing(world.open(world.address(machine)))
    assert code == 1011 and "not attached" in reason


def test_an_interface_that_has_become_a_port_of_a_bridge_is_no_way(world: World):
    """Whatever is on the bridge could answer with the machine's address."""
    world.host.ip("link", "add", "br0", "type", "bridge")
    try:
        world.host.ip("link", "set", "hg0", "master", "br0")
        with listener(world.guest, "0.0.0.0", greet):
            code, reason = closing(world.open("10.0.0.2"))
            assert code == 1011 and "it is a port of a bridge" in reason
            world.host.ip("link", "set", "hg0", "nomaster")
            with world.open("10.0.0.2") as tunnel:
                assert tunnel.recv(timeout=20) == b"hello"
    finally:
        world.host.ip("link", "del", "br0")


def test_a_tunnel_ends_when_its_machine_is_detached_or_ends(world: World):
    namespace = world.lab.namespace("brief")
    machine = world.region.launch("--netns", namespace.name)
    address = world.address(machine)
    with listener(namespace, "0.0.0.0", greet):
        with world.open(address) as tunnel:
            assert tunnel.recv(timeout=20) == b"hello"
            world.region.cli("detach", machine)
            assert closing(tunnel) == (1001, "The instance is no longer running where it was")
        wait_until(lambda: address not in namespace.ip("addr", "show", "lo").stdout, "the address is gone")
        world.region.cli("attach", machine, "--netns", namespace.name)
        with world.open(address) as tunnel:
            assert tunnel.recv(timeout=20) == b"hello"
            world.region.cli("terminate", machine)
            assert closing(tunnel) == (1001, "The instance is no longer running where it was")
    with pytest.raises(InvalidStatus) as refused:
        world.open(address)
    body = json.loads(refused.value.response.body)
    assert (refused.value.response.status_code, body["ErrorCode"]) == (400, "InvalidParameter")


def test_machines_open_no_tunnels(world: World):
    key = json.loads(world.inner.metadata().get(f"meta-data/{IDENTITY}"))
    credentials = Credentials(key["AccessKeyId"], key["SecretAccessKey"], key["Token"])
    with pytest.raises(InvalidStatus) as refused:
        world.open(world.address(world.inner_id), credentials)
    assert json.loads(refused.value.response.body) == {
        "ErrorCode": "UnrecognizedClientException",
        "Message": "The security token included in the request is invalid",
    }


def test_the_name_of_an_endpoint_leads_to_the_region_in_a_pocket(world: World):
    """Where the AWS CLI would ask: the endpoint's own name, port 443, TLS that is verified."""
    endpoint, operator = world.endpoint(), world.operator()
    address = world.address(world.inner_id)
    env = {**world.region.env, "OPERATOR_ID": operator.access_key, "OPERATOR_SECRET": operator.secret_key}
    for name in (endpoint["DnsName"], endpoint["FipsDnsName"]):
        script = [sys.executable, INSIDE / "open_tunnel.py", HERE, endpoint["InstanceConnectEndpointId"], name]
        argv = [*world.region.command_prefix, binary(), "run", "--", *script, address, world.region.name]
        with listener(world.inner, "0.0.0.0", greet):
            inside = run(argv, env, timeout=60)
        assert json.loads(inside.stdout) == {"banner": "hello"}, inside.stderr


def test_a_proxy_command_for_a_configuration_of_ones_own(world: World, place: Path):
    config = world.region.cli("ssh-config", "--data", str(world.region.data)).stdout
    assert "    # ProxyCommand " in config
    (place / "config").write_text(config.replace("    # ProxyCommand", "    ProxyCommand"))
    with world.sshd(world.inner_id, world.inner):
        words = ["ssh", "-F", place / "config", "-i", world.key, "-o", "BatchMode=yes"]
        argv = [*world.region.command_prefix, *words, f"root@{world.inner_id}", "echo", "inside"]
        login = run(argv, clean_env(place / "home"), timeout=60)
    assert (login.returncode, login.stdout) == (0, "inside\n"), login.stderr
