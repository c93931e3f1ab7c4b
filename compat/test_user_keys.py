"""Keys for logins: sent by AWS's clients, in metadata at once, believed by sshd through `inborn authorized-keys`, and
by a double of the login script of AWS's package. With a real sshd."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from harness import INSIDE, READY_SECONDS, ROOT, Region, at_best_within, binary, clean_env, run, tool, wait_until
from lab import laboratory, needs_lab
from metadata import OPENER, Metadata
from openssh import Client, Machine, host_keys, is_safe, keygen, server
from scenes import Scene
from test_clock import FAKETIME
from test_tunnels import World

KEYS = "meta-data/managed-ssh-keys"
needs_root = pytest.mark.skipif(not ROOT, reason="sshd runs no command as another user unless root started it")


@pytest.fixture(scope="module")
def safe() -> Iterator[Path]:
    """A directory that is root's alone, all the way up, with the program in it."""
    with contextlib.ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="inborn-compat-", dir="/run" if ROOT else None)
        path = Path(stack.enter_context(temporary))
        path.chmod(0o755)
        if all(is_safe(part) for part in [binary(), *binary().resolve().parents]):
            (path / "inborn").symlink_to(binary())
        else:
            shutil.copy(binary(), path / "inborn")
        yield path


class Guest:
    """A machine with the region's root, and host keys."""

    def __init__(self, machine: Machine, place: Path, safe: Path, name: str):
        self.machine, self.region, self.place = machine, machine.region, place
        self.id, self.env = machine.id, machine.env
        #: Where metadata is; at 169.254.169.254 if nobody says so.
        self.endpoint = self.env.get("AWS_EC2_METADATA_SERVICE_ENDPOINT")
        self.program = (safe / "inborn").resolve()
        self.root = Path(tempfile.mkdtemp(dir=safe)) / "instance-connect.pem"
        self.root.parent.chmod(0o755)
        shows = lambda: self.region.cli("ca", "show", "instance-connect", check=False).stdout  # noqa: E731
        self.root.write_text(wait_until(shows, "the region has a signer", READY_SECONDS))
        self.keys = host_keys(place / f"keys-{name}", "ed25519")
        machine.push(self.keys)

    @property
    def words(self) -> list[str]:
        where = ["--metadata", self.endpoint] if self.endpoint else []
        return [str(self.program), "authorized-keys", "--root", str(self.root), *where]

    @property
    def command(self) -> list[str]:
        """The lines for sshd."""
        return self.asked_by()

    def asked_by(self, *before: str) -> list[str]:
        """The lines for sshd, with words before the command."""
        words = " ".join([*before, *self.words, "%u", "%f"])
        return [f"AuthorizedKeysCommand {words}", "AuthorizedKeysCommandUser nobody"]

    def send(self, key: Path, user: str = "root") -> dict:
        sending = self.region.client("ec2-instance-connect").send_ssh_public_key
        public = key.with_suffix(".pub").read_text()
        return self.region.do(lambda: sending(InstanceId=self.id, InstanceOSUser=user, SSHPublicKey=public))

    def authorized(self, *words: str, before: tuple[str, ...] = (), **env: str):
        """What the command says when it is asked as sshd asks."""
        return run(
            [*self.machine.prefix, *before, *self.words, *words], {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", **env}
        )


def on_loopback(region: Region, place: Path, safe: Path, name: str) -> Guest:
    return Guest(Machine(region, place, name), place, safe, name)


@pytest.fixture
def client(region: Region, place: Path) -> Client:
    return Client(region, place)


@pytest.fixture
def guest(region: Region, place: Path, safe: Path, request: pytest.FixtureRequest) -> Guest:
    return on_loopback(region, place, safe, request.node.name.replace("_", "-")[:60])


@needs_root
def test_a_key_opens_the_door_and_no_key_is_left_behind(scene: Scene, place: Path, safe: Path):
    guest, client = Guest(scene.machine("door"), place, safe, "door"), scene.client()
    with scene.server(guest.machine, guest.keys, None, *guest.command) as sshd:
        assert client.login(guest.id, sshd, "-l", "root").returncode == 255
        # No key, no noise: AWS's package logs a failure at every such login.
        assert "AuthorizedKeysCommand" not in sshd.log.read_text()
        answer = guest.send(client.key)
        assert answer["Success"] is True and answer["RequestId"] == answer["ResponseMetadata"]["RequestId"]
        begun = time.monotonic()
        login = client.login(guest.id, sshd, "-l", "root")
        assert (login.returncode, login.stdout, login.stderr) == (0, "inside\n", ""), sshd.log.read_text()
        assert time.monotonic() - begun < 30
        other = keygen(place / "other")
        assert "inside" not in run_with(client, guest, sshd, other).stdout, "another key"


def run_with(client: Client, guest: Guest, sshd, key: Path):
    kept, client.key = client.key, key
    try:
        return client.login(guest.id, sshd, "-l", "root")
    finally:
        client.key = kept


@needs_root
def test_a_key_is_for_one_user_of_one_machine(scene: Scene, place: Path, safe: Path):
    guest, other = [Guest(scene.machine(name), place, safe, name) for name in ("asked", "other")]
    client = scene.client()
    guest.send(client.key, user="daemon")
    other.send(client.key)
    with scene.server(guest.machine, guest.keys, None, *guest.command) as sshd:
        refused = client.login(guest.id, sshd, "-l", "root")
        assert refused.returncode == 255 and "Permission denied" in refused.stderr
    with scene.server(other.machine, other.keys, None, *other.command) as sshd:
        assert client.login(other.id, sshd, "-l", "root").stdout == "inside\n", sshd.log.read_text()
    assert guest.authorized("root").stdout == ""
    assert guest.authorized("daemon").stdout == other.authorized("root").stdout != ""


def test_a_key_is_there_at_once_and_ends_with_its_machine(guest: Guest, client: Client, region: Region):
    metadata = Metadata(guest.endpoint)
    sending = region.client("ec2-instance-connect").send_ssh_public_key
    public = client.key.with_suffix(".pub").read_text()

    def known(number: int) -> float:
        user = ["root", "daemon", "bin"][number]
        path = f"/latest/{KEYS}/active-keys/{user}/"
        assert metadata.request("HEAD", path, metadata.headers)[0] == 404
        begun = time.monotonic()
        sending(InstanceId=guest.id, InstanceOSUser=user, SSHPublicKey=public)
        assert metadata.request("HEAD", path, metadata.headers)[0] == 200
        return time.monotonic() - begun

    at_best_within(1.0, known)
    path = f"/latest/{KEYS}/active-keys/root/"
    assert metadata.request("GET", f"/2021-07-15/{KEYS}/", metadata.headers)[0] == 404
    region.cli("reboot", guest.id)
    metadata = Metadata(guest.endpoint)
    assert metadata.request("HEAD", path, metadata.headers)[0] == 404
    guest.send(client.key)
    region.cli("stop", guest.id)
    region.cli("start", guest.id)
    metadata = Metadata(guest.endpoint)
    assert metadata.request("HEAD", path, metadata.headers)[0] == 404


@needs_root
def test_what_is_printed_is_what_sshd_asks_for(guest: Guest, client: Client, place: Path):
    nothing = guest.authorized("root")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "")
    other = keygen(place / "other", "rsa")
    for key in (client.key, other):
        guest.send(key)
    lines = [key.with_suffix(".pub").read_text() for key in (client.key, other)]
    everything = guest.authorized("root")
    assert (everything.returncode, everything.stdout, everything.stderr) == (0, "".join(lines), "")
    listing = run(["ssh-keygen", "-lf", other.with_suffix(".pub")], guest.env, check=True).stdout
    assert guest.authorized("root", listing.split()[1]).stdout == lines[1]
    # No proxy stands between a machine and its metadata.
    proxy = "http://127.0.0.1:1"
    assert guest.authorized("root", http_proxy=proxy, HTTP_PROXY=proxy, ALL_PROXY=proxy).stdout == everything.stdout
    # No other program is needed: no shell, no curl, no openssl.
    assert run([*guest.words, "root"], {"PATH": "/nonexistent"}).stdout == everything.stdout


@needs_root
@pytest.mark.skipif(FAKETIME is None, reason="no libfaketime; on Debian: apt-get install libfaketime")
def test_a_key_whose_minute_is_over_is_refused(scene: Scene, place: Path, safe: Path):
    guest, client = Guest(scene.machine("late"), place, safe, "late"), scene.client()
    guest.send(client.key)
    late = ("/usr/bin/env", f"LD_PRELOAD={FAKETIME}", "FAKETIME=+70s", "FAKETIME_DONT_FAKE_MONOTONIC=1")
    refused = guest.authorized("root", before=late)
    assert (refused.returncode, refused.stdout) == (1, "")
    why = r"a key that was sent to root is refused: it expired \d+ s ago"
    assert re.search(why, refused.stderr)
    with scene.server(guest.machine, guest.keys, None, *guest.asked_by(*late)) as sshd:
        login = client.login(guest.id, sshd, "-l", "root")
        assert login.returncode == 255 and "Permission denied" in login.stderr
        assert re.search(why, sshd.log.read_text()), sshd.log.read_text()


@needs_root
def test_a_metadata_service_that_says_nothing_delays_nobody_for_long(guest: Guest):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        words = [word for word in guest.words if word != guest.endpoint]

        def delayed(_: int) -> float:
            begun = time.monotonic()
            refused = run([*words, f"http://127.0.0.1:{silent.getsockname()[1]}", "root"], {"PATH": "/usr/bin:/bin"})
            seconds = time.monotonic() - begun
            assert (refused.returncode, refused.stdout) == (1, "") and "did not answer in time" in refused.stderr
            return seconds

        at_best_within(6, delayed)


@contextlib.contextmanager
def in_the_middle(endpoint: str, change) -> Iterator[str]:
    """A metadata service that tells what another tells, changed by `change(path, body)`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            kept = {name: value for name, value in self.headers.items() if name.lower().startswith("x-aws")}
            request = urllib.request.Request(endpoint + self.path, method=self.command, headers=kept)
            try:
                with OPENER.open(request, timeout=5) as got:
                    status, body = got.status, got.read()
            except urllib.error.HTTPError as error:
                status, body = error.code, b""
            body = change(self.path, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = answer

        def log_message(self, *_):
            pass

    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{service.server_port}"
    finally:
        service.shutdown()


@needs_root
def test_whoever_stands_in_the_middle_gains_nothing(
    guest: Guest, client: Client, place: Path, region: Region, safe: Path
):
    """Blocks of another machine, blocks from another region, changed blocks, and a signer of one's own."""
    other = on_loopback(region, place, safe, "replayed")
    other.send(client.key)
    mine = keygen(place / "mine").with_suffix(".pub").read_text().strip().encode()
    theirs = client.key.with_suffix(".pub").read_text().strip().encode()

    def refused(change, words: list[str] | None = None) -> str:
        with in_the_middle(other.endpoint, change) as endpoint:
            argv = words or [str(other.program), "authorized-keys", "--root", str(other.root)]
            result = run([*argv, "--metadata", endpoint, "root"], {"PATH": "/usr/bin:/bin"})
        assert (result.returncode, result.stdout) == (1, ""), result.stderr
        return result.stderr

    as_me = lambda path, body: guest.id.encode() if path.endswith("/instance-id") else body  # noqa: E731
    assert "it was sent to another instance" in refused(as_me)
    known = [str(other.program), "authorized-keys", "--root", str(other.root), "--instance", guest.id]
    assert "which is not this instance" in refused(lambda _, body: body, known)
    assert "the signature does not hold" in refused(lambda _, body: body.replace(theirs, mine))
    assert "the signature does not hold" in refused(lambda _, body: body.replace(b"#User=root", b"#User=boot"))
    no_staple = lambda path, body: b"" if "/signer-ocsp/" in path else body  # noqa: E731
    assert "nothing proves that the signer's certificate is still good" in refused(no_staple)
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "home").mkdir()
    foreign = Region(elsewhere / "data", elsewhere / "home").start()
    try:
        wait_until(lambda: foreign.cli("ca", "show", "instance-connect", check=False).returncode == 0, "it has a root")
        strange = other.root.with_name("strange.pem")
        strange.write_text(foreign.cli("ca", "show", "instance-connect").stdout)
    finally:
        foreign.stop()
    words = [str(other.program), "authorized-keys", "--root", str(strange)]
    assert "does not lead to the root that is trusted here" in refused(lambda _, body: body, words)


@needs_root
def test_a_root_that_others_may_write_says_nothing(guest: Guest, client: Client, place: Path):
    guest.send(client.key)
    for mode, owner in ((0o666, 0), (0o644, 65534)):
        guest.root.chmod(mode)
        os.chown(guest.root, owner, 0)
        refused = guest.authorized("root")
        assert (refused.returncode, refused.stdout) == (1, "") and "is not root's alone" in refused.stderr
    os.chown(guest.root, 0, 0)
    guest.root.chmod(0o644)
    assert guest.authorized("root").returncode == 0
    # So does a directory in which others could put another file in its place.
    guest.root.parent.chmod(0o777)
    assert "is not root's alone" in guest.authorized("root").stderr
    guest.root.parent.chmod(0o755)
    guest.root.unlink()
    assert "inborn ca show instance-connect" in guest.authorized("root").stderr


@needs_root
def test_it_is_installed_beside_a_command_that_is_there(guest: Guest, client: Client, place: Path, safe: Path):
    old, directory = keygen(place / "old"), place / "conf.d"
    directory.mkdir()
    script = guest.root.with_name("old-command")
    script.write_text(f'#!/bin/sh\n[ "$1" = root ] && echo "{old.with_suffix(".pub").read_text().strip()}"\n')
    script.chmod(0o755)
    before = [f"Include {directory}/*.conf", f"AuthorizedKeysCommand {script} %u", "AuthorizedKeysCommandUser daemon"]
    install = [*guest.words, "--install", "--directory", str(directory), "--sshd-config"]
    with server(place, guest.keys, None, *before) as sshd:
        config = place / f"sshd-{sshd.port}.conf"
        installed = run([*install, config], guest.env, check=True)
        assert "reload sshd" in installed.stdout
        lines = (directory / "00-inborn.conf").read_text()
        assert f"%u %f -- {script} %u\n" in lines and "AuthorizedKeysCommandUser daemon\n" in lines
        run([*install, config], guest.env, check=True)
        assert (directory / "00-inborn.conf").read_text() == lines, "installing twice changes nothing"
        # The settings above are read first here; sshd_config of a distribution begins with its drop-ins.
        moved = config.read_text().splitlines()
        moved.sort(key=lambda line: not line.startswith("Include"))
        config.write_text("\n".join(moved) + "\n")
    with server(place, guest.keys, None, *(lines.splitlines()[-2:])) as sshd:
        assert run_with(client, guest, sshd, old).stdout == "inside\n", sshd.log.read_text()
        guest.send(client.key)
        assert client.login(guest.id, sshd, "-l", "root").stdout == "inside\n", sshd.log.read_text()
        # The other command counts while the metadata service is away.
        guest.region.cli("stop", guest.id)
        assert run_with(client, guest, sshd, old).stdout == "inside\n", sshd.log.read_text()
        guest.region.cli("start", guest.id)


@needs_root
@pytest.mark.parametrize("before", [[], ["AuthorizedKeysCommand /bin/true %u", "AuthorizedKeysCommandUser nobody"]])
def test_where_sshd_reads_no_drop_ins_nothing_is_left(guest: Guest, place: Path, before: list[str]):
    directory = place / "conf.d"
    directory.mkdir()
    with server(place, guest.keys, None, *before) as sshd:
        config = place / f"sshd-{sshd.port}.conf"
        argv = [*guest.words, "--install", "--directory", str(directory), "--sshd-config", config]
        refused = run(argv, guest.env)
    assert refused.returncode == 1 and f"Include {directory}/*.conf" in refused.stderr
    assert list(directory.iterdir()) == []


@needs_root
def test_while_the_region_is_away_user_keys_are_refused_and_host_keys_are_not(
    own_scene: Scene, place: Path, safe: Path
):
    scene = own_scene
    guest, client = Guest(scene.machine("away"), place, safe, "away"), scene.client()
    with scene.server(guest.machine, guest.keys, client.key, *guest.command) as sshd:
        assert client.login(guest.id, sshd).stdout == "inside\n"
        scene.region.stop()
        with pytest.raises(EndpointConnectionError, match="Could not connect"):
            guest.send(client.key)
        refused = guest.authorized("root")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith("inborn: no keys for root: the metadata service does not answer")
        # A standing key still opens the door, and the host's key comes from the cache.
        assert client.login(guest.id, sshd).stdout == "inside\n", sshd.log.read_text()
        client.key = keygen(place / "fresh-key")
        assert "Permission denied" in client.login(guest.id, sshd).stderr
        assert "no keys for root: the metadata service does not answer" in sshd.log.read_text()


@needs_root
def test_the_aws_cli_sends_a_key(guest: Guest, client: Client, region: Region):
    argv = [tool("aws"), "ec2-instance-connect", "send-ssh-public-key", "--instance-id", guest.id]
    argv += ["--instance-os-user", "root", "--ssh-public-key", f"file://{client.key}.pub"]
    env = clean_env(region.home, **region.operator())
    answer = json.loads(run(argv, env, check=True).stdout)
    assert answer["Success"] is True and re.fullmatch(r"[0-9a-f-]{36}", answer["RequestId"])
    assert guest.authorized("root").stdout == client.key.with_suffix(".pub").read_text()
    wrong = run([*argv[:3], "--instance-id", "i-0123456789abcdef0", *argv[5:]], env)
    expected = "(EC2InstanceNotFoundException) when calling the SendSSHPublicKey operation: The specified instance "
    assert wrong.returncode != 0 and expected in wrong.stderr
    console = ["send-serial-console-ssh-public-key", "--instance-id", guest.id, *argv[7:]]
    refused = run([*argv[:2], *console], env)
    assert "(SerialConsoleAccessDisabledException)" in refused.stderr


@needs_root
def test_mssh_logs_in(guest: Guest, client: Client, region: Region, place: Path):
    """AWS's own client, which asks for zone and address, makes a key, sends it and runs ssh."""
    with server(place, guest.keys, None, *guest.command) as sshd:
        # The address that the region gave the machine is nowhere: a user's configuration leads to where its sshd is.
        config = client.home / ".ssh"
        config.mkdir(mode=0o700, exist_ok=True)
        options = client.config.read_text().replace("Host i-*\n", "Host *\n")
        options += f"    HostName 127.0.0.1\n    HostKeyAlias {guest.id}\n    BatchMode yes\n"
        (config / "config").write_text(options)
        # ssh reads the configuration of the user's home in the password file, not of $HOME.
        wrapper = client.home / "bin"
        wrapper.mkdir()
        (wrapper / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {config / "config"} "$@"\n')
        (wrapper / "ssh").chmod(0o755)
        env = {**client.env, **region.operator()}
        env["PATH"] = f"{wrapper}:{env['PATH']}"
        argv = [tool("mssh"), "-r", region.name, "-p", str(sshd.port), f"root@{guest.id}", "echo inside"]
        login = run(argv, env, timeout=60)
        assert (login.returncode, login.stdout.strip()) == (0, "inside"), login.stderr + sshd.log.read_text()
    call = [line for line in region.audit() if line["eventName"] == "SendSSHPublicKey"][-1]
    assert call["requestParameters"]["instanceId"] == guest.id and call["requestParameters"]["osUser"] == "root"
    assert call["requestParameters"]["SSHKey"]["publicKey"].startswith("ssh-rsa ")


class Pocket:
    """A shell script in a pocket that begins when it is told to."""

    def __init__(self, region: Region, place: Path, script: str):
        (place / "pocket").mkdir()
        self.go = place / "pocket/go"
        waiting = f"cd {place}/pocket; until [ -e go ]; do sleep 0.05; done; "
        there = lambda: {one["instance_id"] for one in json.loads(region.cli("ps", "--output", "json").stdout)}  # noqa: E731
        known = there()
        self.process = subprocess.Popen(
            [binary(), "run", "--", "sh", "-c", waiting + script],
            env=region.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.id = next(iter(wait_until(lambda: there() - known, "the pocket has a machine")))

    def finish(self) -> tuple[int, str, str]:
        self.go.touch()
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


def trust_store(region: Region, directory: Path) -> Path:
    """A directory of certificates as a guest has one, with the region's root under its own name."""
    directory.mkdir()
    pem = region.cli("ca", "show", "instance-connect").stdout
    (directory / "root").write_text(pem)
    argv = ["openssl", "x509", "-in", directory / "root", "-noout", "-subject", "-nameopt", "RFC2253"]
    subject = run(argv, clean_env(directory), check=True).stdout
    name = re.search(r"CN=([^,\n]+)", subject).group(1).replace(" ", "_")
    (directory / "root").rename(directory / f"{name}.pem")
    run(["openssl", "rehash", directory], clean_env(directory), check=True)
    return directory


def test_the_login_script_of_the_package_verifies_keys(region: Region, client: Client, place: Path):
    """Its checks, in other words, by OpenSSL 3, where the domain is one of AWS's. It is in no package of Debian's."""
    trusted = trust_store(region, place / "certs")
    empty = place / "empty"
    empty.mkdir()
    ask = f"sh {INSIDE}/login_keys.sh"
    fingerprint = run(["ssh-keygen", "-lf", f"{client.key}.pub"], client.env, check=True).stdout.split()[1]
    script = "; ".join(
        f"{ask} {words}; echo status $?"
        for words in (
            f"{trusted} root",
            f"{trusted} root {fingerprint}",
            f"{trusted} root SHA256:x",
            f"{empty} root",
            f"{trusted} nobody 2>/dev/null",
        )
    )
    pocket = Pocket(region, place, script)
    sending = region.client("ec2-instance-connect").send_ssh_public_key
    key = Path(f"{client.key}.pub").read_text()
    sending(InstanceId=pocket.id, InstanceOSUser="root", SSHPublicKey=key)
    _, out, err = pocket.finish()
    assert out.splitlines() == [
        key.strip(),
        "status 0",
        key.strip(),
        "status 0",
        "status 255",
        "status 1",
        "status 22",
    ], err


def test_the_login_script_knows_no_other_domain(make_region, place: Path, client: Client):
    lab = make_region("lab", "--domain", "lab.internal").start()
    wait_until(lambda: lab.cli("ca", "show", "instance-connect", check=False).returncode == 0, "it has a signer")
    trusted = trust_store(lab, place / "certs")
    pocket = Pocket(lab, place, f"sh {INSIDE}/login_keys.sh {trusted} root; echo status $?")
    key = Path(f"{client.key}.pub").read_text()
    lab.client("ec2-instance-connect").send_ssh_public_key(
        InstanceId=pocket.id, InstanceOSUser="root", SSHPublicKey=key
    )
    _, out, err = pocket.finish()
    assert (out.split(), "none of AWS's" in err) == (["status", "255"], True)


@needs_root
def test_ours_knows_any_domain_and_any_zone(make_region, place: Path, safe: Path, client: Client):
    """A zone of a local zone's form: AWS's script derives a wrong region from it, ours derives none."""
    lab = make_region("lab", "--domain", "lab.internal", "--region", "us-west-2-lax-1").start()
    wait_until(lambda: lab.cli("ca", "show", "instance-connect", check=False).returncode == 0, "it has a signer")
    guest = on_loopback(lab, place, safe, "local")
    assert Metadata(guest.endpoint).get("meta-data/placement/availability-zone") == "us-west-2-lax-1a"
    guest.send(client.key)
    assert guest.authorized("root").stdout == Path(f"{client.key}.pub").read_text()


@needs_lab
def test_one_command_logs_in_without_a_standing_key(place: Path, safe: Path):
    """`inborn ssh` to a machine without any network: through its host, to a host key that the region knows."""
    with laboratory(place) as (lab, host, region):
        world = World(lab, host, region, place)
        root = Path(tempfile.mkdtemp(dir=safe)) / "root.pem"
        root.parent.chmod(0o755)
        shows = lambda: region.cli("ca", "show", "instance-connect", check=False).stdout  # noqa: E731
        root.write_text(wait_until(shows, "the region has a signer"))
        program = (safe / "inborn").resolve()
        command = [f"AuthorizedKeysCommand {program} authorized-keys --root {root} %u %f"]
        command.append("AuthorizedKeysCommandUser nobody")
        keys = world.published(world.inner_id, world.inner)
        with server(place, keys, None, *command, inside=world.inner) as sshd:
            login = world.login("ssh", "root@inner", "--", "echo inside")
            assert (login.returncode, login.stdout) == (0, "inside\n"), login.stderr + sshd.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_login_that_is_called_off_leaves_no_key(guest: Guest, place: Path, number: signal.Signals):
    """Also before ssh has begun: while its key is being made."""
    programs, temporary, begun = place / "programs", place / "temporary", place / "begun"
    programs.mkdir()
    temporary.mkdir()
    (programs / "ssh-keygen").write_text(f"#!/bin/sh\ntouch {begun}\nexec sleep 60\n")
    (programs / "ssh-keygen").chmod(0o755)
    env = {**guest.region.env, "TMPDIR": str(temporary)}
    env["PATH"] = f"{programs}:{env['PATH']}"
    process = subprocess.Popen([binary(), "ssh", f"root@{guest.id}"], env=env, stdin=subprocess.DEVNULL)
    try:
        wait_until(begun.exists, "a key is being made")
        assert len(list(temporary.iterdir())) == 1
        process.send_signal(number)
        assert process.wait(10) == 128 + number
    finally:
        process.kill()
    assert list(temporary.iterdir()) == []


def test_what_is_no_key_changes_nothing(guest: Guest, client: Client):
    guest.send(client.key)
    before = Metadata(guest.endpoint).get(f"{KEYS}/active-keys/root")
    sending = guest.region.client("ec2-instance-connect").send_ssh_public_key
    public = client.key.with_suffix(".pub").read_text().strip()
    for key in (f'{public} "', f"{public}\n{public}", "x" * 80, public.replace("AAAA", "AAAB"), public.split()[1] * 2):
        with pytest.raises(ClientError) as refused:
            sending(InstanceId=guest.id, InstanceOSUser="root", SSHPublicKey=key)
        assert refused.value.response["Error"]["Code"] == "InvalidArgsException", key
        assert refused.value.response["Message"] == refused.value.response["Error"]["Message"] != ""
    assert Metadata(guest.endpoint).get(f"{KEYS}/active-keys/root") == before


def test_a_machine_sends_no_keys(guest: Guest, client: Client, region: Region):
    """The identity role may not: to it, the operation does not exist."""
    machine = region.client("ec2-instance-connect", Metadata(guest.endpoint).identity())
    with pytest.raises(ClientError) as refused:
        machine.send_ssh_public_key(
            InstanceId=guest.id, InstanceOSUser="root", SSHPublicKey=client.key.with_suffix(".pub").read_text()
        )
    assert refused.value.response["Error"]["Code"] == "UnrecognizedClientException"
