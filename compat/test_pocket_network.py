"""`inborn run --net host-egress`: the world is reachable, this computer and what it alone may ask are not."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import NOBODY, ROOT, Result, binary, clean_env, run, scratch, wait_until
from netlab import Computer, computer, need

#: An HTTP server that says one sentence: address, port, sentence.
SERVER = """
import http.server, socket, socketserver, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(sys.argv[3].encode())
    def log_message(self, *_): pass
# Unlike an HTTPServer it does not look its own name up, which takes seconds where there is no resolver.
class Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""
#: A name server that knows one name, and prints what it is asked: address, name, its address.
NAMES = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); server.bind((sys.argv[1], 53))
while True:
    query, client = server.recvfrom(512)
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode()); at += query[at] + 1
    name, kind = '.'.join(labels), query[at + 2]
    print(name, flush=True)
    known = name == sys.argv[2]
    found = known and kind == 1
    answer = b'\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\1\\0\\4' + socket.inet_aton(sys.argv[3]) if found else b''
    head = query[:2] + (b'\\x81\\x80' if known else b'\\x81\\x83') + b'\\0\\1\\0' + bytes([found]) + b'\\0' * 4
    server.sendto(head + query[12:at + 5] + answer, client)
"""
NAME = "server.example"
FAR, OWN = "far away", "this computer's own"
#: Asks for an address; prints what it gets, or nothing. What must not come is waited for two seconds.
ASK, ASK_IN_VAIN = "curl -s -m 20 {}; :", "curl -s -m 2 {}; :"
Pocket = Callable[..., Result]


@pytest.fixture(scope="module")
def lab() -> Iterator[tuple[Computer, Path, Path]]:
    """A computer with servers of its own, the world with one, and a name server there; its resolv.conf and its log."""
    need("passt", "passt")
    need("nsenter", "util-linux")
    with computer() as one, tempfile.TemporaryDirectory() as directory:
        resolv_conf, asked = Path(directory) / "resolv.conf", Path(directory) / "asked"
        resolv_conf.write_text(f"nameserver {one.WORLD}\n")
        Path(directory).chmod(0o755)
        servers = [
            (True, [SERVER, one.WORLD, "80", FAR]),
            (True, [SERVER, one.ROUTER_V6, "80", FAR]),
            (False, [SERVER, "127.0.0.1", "8080", OWN]),
            (False, [SERVER, "::1", "8080", OWN]),
            (False, [SERVER, one.OWN, "8080", OWN]),
            (False, [SERVER, one.OWN_V6, "8080", OWN]),
            (False, [SERVER, "169.254.169.254", "80", OWN]),
            (False, [SERVER, "fd00:ec2::254", "80", OWN]),
            (True, [NAMES, one.WORLD, NAME, one.WORLD]),
        ]
        with asked.open("w") as log:
            running = [
                subprocess.Popen(one.inside(sys.executable, "-c", *words, world=world), stdout=log)
                for world, words in servers
            ]
        try:
            for url, world, sentence in (
                (f"http://{one.WORLD}", False, FAR),
                (f"http://[{one.ROUTER_V6}]", False, FAR),
                *((url, False, OWN) for url in own_urls(one)),
            ):

                def answers(url: str = url, world: bool = world, sentence: str = sentence) -> bool:
                    asking = one.inside("sh", "-c", ASK.format(f"'{url}'"), world=world)
                    return subprocess.run(asking, capture_output=True, text=True).stdout == sentence

                wait_until(answers, f"{url} answers outside the pocket", 60)
            yield one, resolv_conf, asked
        finally:
            for server in running:
                server.kill()
                server.wait()


def own_urls(one: Computer) -> list[str]:
    """Where this computer's own servers are, as seen from itself."""
    loopback = ["http://127.0.0.1:8080", "http://[::1]:8080"]
    network = [f"http://{one.OWN}:8080", f"http://[{one.OWN_V6}]:8080"]
    return [*loopback, *network, "http://169.254.169.254", "http://[fd00:ec2::254]"]


@pytest.fixture(params=["root", "unprivileged"])
def pocket(request: pytest.FixtureRequest, lab: tuple[Computer, Path, Path]) -> Iterator[Pocket]:
    """`pocket("script")` runs a shell script in a pocket with a network, on the computer of the lab."""
    one, resolv_conf, _ = lab
    with scratch() as place:
        home = place / "home"
        home.mkdir()
        program, prefix = binary(), []
        # Where udev has not been, as in containers, the device of networks is root's alone. Among temporary files there
        # may be no devices.
        devices = place / "devices"
        devices.mkdir()
        if request.param == "unprivileged":
            program = place / "inborn"
            program.write_bytes(binary().read_bytes())
            program.chmod(0o755)
            home.chmod(0o777)
            prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
        env = clean_env(home)
        device = f"mount -t tmpfs none {devices} && mknod -m 666 {devices}/tun c 10 200"
        mounts = f"mount --bind {resolv_conf} /etc/resolv.conf && {device} && mount --bind {devices}/tun /dev/net/tun"
        mounted = ["unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh"]

        def call(script: str, *flags: str, check: bool = True) -> Result:
            words = [*mounted, *prefix, program, "run", "--net", "host-egress", *flags, "--", "sh", "-c", script]
            return run(one.inside(*map(str, words)), env, check=check)

        yield call


def test_the_world_is_reachable(pocket: Pocket, lab: tuple[Computer, Path, Path]):
    one, _, _ = lab
    assert pocket(ASK.format(f"http://{one.WORLD}")).stdout == FAR
    assert pocket(ASK.format(f"http://[{one.ROUTER_V6}]")).stdout == FAR
    assert pocket(ASK.format(f"http://{NAME}")).stdout == FAR, "by the names of the computer's resolver"


def test_this_computer_is_not(pocket: Pocket, lab: tuple[Computer, Path, Path]):
    one, _, _ = lab
    asking = [ASK_IN_VAIN.format(f"'{url}'") for url in own_urls(one)]
    # A socket that is bound to the device takes every address to be on its link, whatever the routes say.
    asking += [ASK_IN_VAIN.format(f"--interface eth0 '{url}'") for url in own_urls(one)]
    # All at once: each of them waits in vain for its two seconds.
    script = "\n".join(f"({ask}) &" for ask in asking)
    told = pocket(f"{script}\nwait\n{ASK.format(f'http://{one.WORLD}')}").stdout
    assert OWN not in told
    assert told.endswith(FAR), "the network was there all the time"


def test_the_region_is_the_regions_own(pocket: Pocket, lab: tuple[Computer, Path, Path]):
    _, _, asked = lab
    script = """set -eu
    inborn whoami
    curl -s -o /dev/null -w '%{http_code}\\n' https://sts.us-east-1.amazonaws.com/
    curl -s -o /dev/null -w '%{http_code}\\n' https://bucket.s3.eu-west-1.amazonaws.com/ || echo nowhere"""
    told = pocket(script).stdout
    assert "assumed-role/aws:ec2-instance/i-" in told
    assert told.endswith("302\n000\nnowhere\n")
    assert "amazonaws" not in asked.read_text(), "no name of the region's domain is asked of the world"


def test_metadata_is_the_machines_own(pocket: Pocket):
    script = """set -eu
    token=$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token)
    curl -sf -H "X-aws-ec2-metadata-token: $token" http://169.254.169.254/latest/meta-data/instance-id
    printf ' %s' "$INSTANCE_ID" """
    found, named = pocket(script).stdout.split()
    assert found == named


def test_root_cannot_undo_it(pocket: Pocket, lab: tuple[Computer, Path, Path], request: pytest.FixtureRequest):
    one, _, _ = lab
    script = f"""
    ip address delete 169.254.169.254/32 dev lo && echo deleted
    ip route add 169.254.0.0/16 dev eth0
    ip neighbour replace 169.254.169.254 lladdr 02:69:6e:62:00:02 dev eth0
    {ASK_IN_VAIN.format("http://169.254.169.254")}
    {ASK.format(f"http://{one.WORLD}")}"""
    told = pocket(script).stdout
    assert OWN not in told
    assert told.endswith(FAR)
    assert ("deleted" in told) == ("[root]" in request.node.name), "an ordinary user has no powers inside"


def test_nothing_is_left(pocket: Pocket, lab: tuple[Computer, Path, Path]):
    one, _, _ = lab
    assert pocket("exit 3", check=False).returncode == 3

    def gone() -> bool:
        inside = subprocess.run(["ip", "netns", "pids", one.name], capture_output=True, text=True).stdout.split()
        names = []
        for pid in inside:
            # One may end meanwhile.
            with contextlib.suppress(OSError):
                names.append(Path(f"/proc/{pid}/comm").read_text().strip())
        return not any("passt" in name for name in names)

    wait_until(gone, "passt has ended")


def test_the_command_outlives_its_network(lab: tuple[Computer, Path, Path], place: Path):
    one, _, _ = lab
    script = "echo ready; read go; inborn whoami"
    words = one.inside(str(binary()), "run", "--net", "host-egress", "--", "sh", "-c", script)
    keys = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    pocket = subprocess.Popen(words, env=clean_env(place / "home"), text=True, **keys)
    assert pocket.stdout.readline() == "ready\n"
    children = Path(f"/proc/{pocket.pid}/task/{pocket.pid}/children").read_text().split()
    (helper,) = (pid for pid in children if "passt" in Path(f"/proc/{pid}/comm").read_text())
    os.kill(int(helper), signal.SIGKILL)
    assert "ended: signal: 9 (SIGKILL): the command goes on without a network" in pocket.stderr.readline()
    told, _ = pocket.communicate("go\n", timeout=60)
    assert (pocket.returncode, "assumed-role/aws:ec2-instance/i-" in told) == (0, True)


def test_what_is_missing_is_named(place: Path):
    env = {**clean_env(place / "home"), "PATH": str(binary().parent)}
    result = run([binary(), "run", "--net", "host-egress", "--", "/bin/true"], env)
    assert result.returncode == 125
    assert "install the package passt" in result.stderr


def test_a_computer_without_a_network_is_told_so(place: Path):
    if not ROOT:
        pytest.skip("only root can make a computer without a network")
    need("passt", "passt")
    words = ["unshare", "--net", binary(), "run", "--net", "host-egress", "--", "true"]
    result = run(["sh", "-c", 'exec "$@"', "sh", *words], clean_env(place / "home"))
    assert result.returncode == 125
    assert result.stderr.startswith("inborn: "), result.stderr
