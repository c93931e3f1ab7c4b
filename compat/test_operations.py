"""The operations endpoint, what a supervisor is told, sockets that are passed in, and a stop that loses no call."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from harness import HERE, ROOT, Region, at_best_within, binary, clean_env, free_port, read_exports, run, wait_until
from raw import connect, good_request, read_answer
from test_hosts import Host

MONITORING = HERE.parent / "contrib/monitoring"
needs_root = pytest.mark.skipif(not ROOT, reason="a small disk has to be mounted")


def ask(region: Region, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(region.ready["operations"] + path, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_region_that_is_well(fresh: Region):
    assert ask(fresh, "/livez") == (200, "ok\n")
    assert ask(fresh, "/readyz") == (200, "ok\n")
    assert ask(fresh, "/nothing")[0] == 404


def test_many_questions_cost_few_writes(fresh: Region):
    wal = fresh.data / "inborn.db-wal"
    ask(fresh, "/readyz")
    before = wal.stat().st_size
    for _ in range(200):
        assert ask(fresh, "/readyz")[0] == 200
    assert wal.stat().st_size - before < 200 * 4096 / 4


def test_a_locked_store_is_not_ready(fresh: Region):
    assert ask(fresh, "/readyz")[0] == 200
    time.sleep(2.1)
    hold = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "c.execute('BEGIN IMMEDIATE'); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(fresh.data / "inborn.db")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        status, text = ask(fresh, "/readyz")
        assert status == 503 and text.startswith("not ready\nstore: "), text
        assert ask(fresh, "/livez") == (200, "ok\n"), "nothing that a restart would mend"
        assert "inborn_ready 0" in ask(fresh, "/metrics")[1]
        other.stdin.close()
    wait_until(lambda: ask(fresh, "/readyz")[0] == 200, "ready again")


@needs_root
def test_a_full_disk_is_not_ready(place: Path, make_region):
    disk = place / "disk"
    disk.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=40m", "none", disk], clean_env(place), check=True)
    try:
        region = make_region(data=disk / "data").start()
        assert ask(region, "/readyz") == (200, "ok\n")
        with (disk / "ballast").open("wb") as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(1 << 20))
                ballast.flush()
        status, text = wait_until(lambda: (a := ask(region, "/readyz"))[0] == 503 and a, "the disk is full")
        assert "disk: 0 MiB are left" in text
        assert re.search(r"^inborn_disk_free_bytes \d{1,7}$", ask(region, "/metrics")[1], re.M)
        (disk / "ballast").unlink()
        wait_until(lambda: ask(region, "/readyz")[0] == 200, "ready again")
        region.kill()
    finally:
        run(["umount", "-l", disk], clean_env(place), check=True)


def test_a_drain_says_so_first_and_loses_no_call(make_region):
    region = make_region("data", "--drain", "10").start()
    # Made before: it takes boto3 a second.
    request, sts = good_request(region), region.client("sts")
    with connect(region.port) as slow:
        slow.sendall(request[:-1])
        region.process.send_signal(signal.SIGTERM)
        wait_until(lambda: ask(region, "/readyz")[0] == 503, "it says that it stops")
        assert ask(region, "/readyz")[1].startswith("not ready\nstopping")
        assert ask(region, "/livez") == (200, "ok\n")
        assert sts.get_caller_identity()["Account"] == region.account, "it still serves"
        wait_until(lambda: refuses(region.port), "no new connections", 30)
        assert region.alive(), "a call is under way"
        slow.sendall(request[-1:])
        assert read_answer(slow)[0] == 200, "it has its answer"
    assert region.process.wait(20) == 0


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_second_signal_ends_the_drain(make_region):
    def ended(number: int) -> float:
        region = make_region(f"data-{number}", "--drain", "60").start()
        region.process.send_signal(signal.SIGTERM)
        wait_until(lambda: ask(region, "/readyz")[0] == 503, "it says that it stops")
        seconds = region.stop()
        assert region.process.returncode == 0
        return seconds

    at_best_within(2, ended)


def five_signs_of_life(supervisor: socket.socket) -> float:
    """How long they take."""
    started = time.monotonic()
    assert [supervisor.recv(4096) for _ in range(5)] == [b"WATCHDOG=1"] * 5
    return time.monotonic() - started


def test_a_supervisor_is_told(place: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(place / "notify"))
        supervisor.settimeout(30)
        environment = clean_env(place / "home", NOTIFY_SOCKET=str(place / "notify"), WATCHDOG_USEC="400000")
        ports = ["--port", "0", "--tls-port", "0", "--operations-port", "0"]
        command = [str(binary()), "up", "--data", str(place / "data"), *ports]
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as up:
            try:
                assert supervisor.recv(4096) == b"READY=1\nSTATUS=region us-east-1, account 123456789012"
                assert (place / "data/ready.json").exists()
                # Twice as often as it has to be.
                at_best_within(2, lambda _: five_signs_of_life(supervisor))
                up.send_signal(signal.SIGTERM)
                last = wait_until(lambda: (m := supervisor.recv(4096)) != b"WATCHDOG=1" and m, "it says that it stops")
                assert last.startswith(b"STOPPING=1")
                assert up.wait(10) == 0
            finally:
                up.kill()


#: Does what systemd does: sockets as descriptors from 3 on, and then the program under the same process id.
ACTIVATE = """
import os, socket, sys
names = sys.argv[1].split(":")
sockets = [socket.create_server(("127.0.0.1", 0)) for name in names]
print(*[one.getsockname()[1] for one in sockets], flush=True)
for place, one in enumerate(sockets):
    os.dup2(one.fileno(), 60 + place)
for place in range(len(sockets)):
    os.dup2(60 + place, 3 + place)
environment = dict(os.environ, LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=sys.argv[1])
os.execve(sys.argv[2], sys.argv[2:], environment)
"""


def activated(place: Path, names: str) -> subprocess.Popen:
    ports = ["--port", "0", "--tls-port", "0", "--operations-port", "0"]
    command = [sys.executable, "-c", ACTIVATE, names, str(binary()), "up", "--data", str(place / "data"), *ports]
    return subprocess.Popen(
        command, env=clean_env(place / "home"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_sockets_of_a_supervisor_are_served(place: Path):
    with activated(place, "operations:http") as up:
        try:
            operations, http = up.stdout.readline().split()
            ready = place / "data/ready.json"
            wait_until(lambda: ready.exists() or up.poll() is not None, "`up` is ready", 30)
            told = json.loads(ready.read_text())
            assert told["endpoint"] == f"http://127.0.0.1:{http}"
            assert told["operations"] == f"http://127.0.0.1:{operations}"
            with urllib.request.urlopen(f"http://127.0.0.1:{operations}/readyz", timeout=10) as answer:
                assert answer.read() == b"ok\n"
            up.send_signal(signal.SIGTERM)
            assert up.wait(10) == 0
        finally:
            up.kill()


def test_a_socket_that_nobody_knows_is_an_error(place: Path):
    with activated(place, "inborn.socket") as up:
        assert up.wait(30) == 1
        assert "FileDescriptorName" in up.stderr.read()


def metric_names(text: str) -> set[str]:
    """What `text` (PromQL, or the exposition format) speaks of."""
    return set(re.findall(r"\binborn_[a-z0-9_]+", text))


def names_in(text: str) -> set[str]:
    """The names of what is served, as they are asked for."""
    assert text.endswith("# EOF\n")
    families = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    suffix = {"counter": "_total", "info": "_info"}
    return {name + suffix.get(kind, "") for name, kind in families.items()}


def served(region: Region) -> tuple[set[str], str]:
    status, text = ask(region, "/metrics")
    assert status == 200
    return names_in(text), text


def asked_for() -> list[str]:
    """What the dashboard and the alerts ask."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    alerts = re.findall(r"^\s+expr: (.+)$", (MONITORING / "alerts.yaml").read_text(), re.M)
    assert len(asked) >= 20 and len(alerts) >= 15
    return [*asked, *alerts]


def check_labels(text: str) -> None:
    """Words from short lists: nothing of which there are as many as machines, accounts, keys or addresses."""
    labelled = re.findall(r"^(inborn_\w+)\{(.*)\} ", text, re.M)
    assert labelled
    for name, labels in labelled:
        for value in re.findall(r'="([^"]*)"', labels):
            assert not re.search(r"[ih]-[0-9a-f]{8}|\d{12}|AKIA|ASIA|\d+\.\d+\.\d+\.\d+", value), (name, value)
            assert len(value) <= 64, (name, value)


def served_by_a_region(make_region, place: Path) -> set[str]:
    """After something was counted for each: a family is not served before."""
    region = make_region("data", "--metadata-rate", "5").start()
    machine = read_exports(region.cli("launch", "--export").stdout)
    keys = place / "keys"
    keys.mkdir()
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / "ssh_host_ed25519_key"], region.env, check=True)
    run([binary(), "host-keys", "push", "--directory", keys, "--once"], region.env | machine, check=True)
    for _ in range(30):
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"] + "/latest/", timeout=10)
    return served(region)[0]


def served_by_a_fleet(make_region, place: Path) -> set[str]:
    """By a region server, and by a host of it."""
    port = str(free_port())
    server = make_region("server", "--store", f"sqlite:{place}/store.db", "--hosts-port", port)
    as_up = server.command
    server.command = lambda ready, *more: ["region" if word == "up" else word for word in as_up(ready, *more)]
    server.start()
    host = Host(server, place, f"127.0.0.1:{port}").start("--operations-port", "0")
    try:
        stranger = ssl.create_default_context()
        stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"https://127.0.0.1:{port}/", context=stranger, timeout=10)
        operations = json.loads(host.ready.read_text())["operations"]
        with urllib.request.urlopen(f"{operations}/metrics", timeout=10) as answer:
            of_server, of_host = served(server)[1], answer.read().decode()
        check_labels(of_server)
        check_labels(of_host)
        return names_in(of_server) | names_in(of_host)
    finally:
        host.kill()


def test_dashboard_and_alerts_speak_of_what_is_served(make_region, place: Path):
    names = served_by_a_region(make_region, place) | served_by_a_fleet(make_region, place)
    for expression in asked_for():
        assert metric_names(expression) or "up{" in expression, expression
        assert metric_names(expression) <= names, expression


def test_every_alert_has_a_row_that_says_what_to_do():
    alerts = re.findall(r"^\s+- alert: (\w+)$", (MONITORING / "alerts.yaml").read_text(), re.M)
    rows = re.findall(r"^\| (`Inborn.*?) \| ", (HERE.parent / "docs/operations.md").read_text(), re.M)
    told = [name for row in rows for name in re.findall(r"`(Inborn\w+)`", row)]
    assert sorted(told) == sorted(alerts)


def test_labels_are_words_from_short_lists(region: Region):
    instance = json.loads(region.cli("launch", "--output", "json").stdout)
    region.client("ec2").describe_instances()
    _, text = served(region)
    assert instance["instance_id"] not in text
    check_labels(text)
    assert 'inborn_build_info{version="' in text


#: Above this a unit gives more than its program needs. Of 10; less is better.
EXPOSURE_MAX = 3.0
SYSTEMD = HERE.parent / "contrib/systemd"
SERVICES = sorted(path.name for path in SYSTEMD.glob("*.service"))
#: A service, and a drop-in that is put beside it.
SCORED = [*((name, None) for name in SERVICES), ("inborn.service", "inborn-host.conf")]


def exposure(unit: Path) -> tuple[float, str]:
    """systemd's own score of a unit with the drop-ins beside it, and its reasons."""
    if shutil.which("systemd-analyze") is None:
        assert os.environ.get("CI") != "true", "on CI there is systemd-analyze: .ci/run installs it"
        pytest.skip("needs systemd-analyze")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", unit]
    told = run(command, os.environ | {"LC_ALL": "C.UTF-8"}, check=True)
    return float(re.search(rf"exposure level for {re.escape(unit.name)}: ([\d.]+)", told.stdout)[1]), told.stdout


@pytest.mark.parametrize(("name", "drop_in"), SCORED)
def test_units_are_hardened(place: Path, name: str, drop_in: str | None):
    """As it is, and with the privileges that a drop-in gives."""
    shutil.copy(SYSTEMD / name, place)
    if drop_in:
        (place / f"{name}.d").mkdir()
        shutil.copy(SYSTEMD / drop_in, place / f"{name}.d")
    score, reasons = exposure(place / name)
    assert score <= EXPOSURE_MAX, reasons


def test_a_unit_that_is_not_hardened_is_told(place: Path):
    (place / "bare.service").write_text("[Service]\nExecStart=/usr/bin/inborn sensor\n")
    assert exposure(place / "bare.service")[0] > EXPOSURE_MAX


def test_what_is_refused_kills_nothing():
    """A call that a filter shuts is an error to the program, not its end: libraries ask for more than they need."""
    for name in SERVICES:
        lines = (SYSTEMD / name).read_text().splitlines()
        filters = any(line.startswith("SystemCallFilter=") for line in lines)
        assert not filters or "SystemCallErrorNumber=EPERM" in lines, name


def test_what_a_socket_unit_opens_is_taken_by_its_service():
    """The names that the program knows, and the call by which it takes a socket, which @system-service is without."""
    sockets = sorted(SYSTEMD.glob("*.socket"))
    assert len(sockets) >= 4
    for unit in sockets:
        text = unit.read_text()
        name = re.search(r"^FileDescriptorName=(.+)$", text, re.M)[1]
        service = re.search(r"^Service=(.+)$", text, re.M)[1]
        assert name in {"http", "https", "operations"}, unit
        allowed = re.findall(r"^SystemCallFilter=([^~].*)$", (SYSTEMD / service).read_text(), re.M)
        assert "pidfd_getfd" in " ".join(allowed).split(), service
