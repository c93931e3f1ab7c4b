"""`inborn doctor`: each defect is found and comes with a remedy, and a computer that is well has none."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path

import pytest

from harness import ROOT, Region, binary, clean_env, run


def doctor(region: Region, **variables: str) -> tuple[int, dict[str, dict]]:
    told = run([binary(), "doctor", "--output", "json"], region.env | variables)
    assert not told.stderr, told.stderr
    document = json.loads(told.stdout)
    found = {check["check"]: check for check in document["checks"]}
    assert len(found) == len(document["checks"])
    problems = [check for check in found.values() if check["verdict"] == "problem"]
    assert document["problems"] == len(problems)
    assert told.returncode == (1 if problems else 0)
    for check in found.values():
        assert (check["verdict"] == "ok") == (check["next"] == ""), check
    return told.returncode, found


def computer_aside(found: dict[str, dict]) -> dict[str, dict]:
    """Without what is this computer's, and nothing that a test has made."""
    return {name: check for name, check in found.items() if name not in {"pockets", "disk", "clock"}}


def test_a_running_region_has_no_problem(fresh: Region):
    _, found = doctor(fresh)
    assert not [check for check in computer_aside(found).values() if check["verdict"] == "problem"], found
    assert found["running"]["found"] == f"process {fresh.pid} is ready"
    assert fresh.ready["tls_endpoint"] in found["ports"]["found"]
    assert found["trust"]["verdict"] == "hint" and "AWS_CA_BUNDLE" in found["trust"]["next"]
    assert doctor(fresh, AWS_CA_BUNDLE=fresh.ready["ca_bundle"])[1]["trust"]["verdict"] == "ok"


def test_tables_are_for_people(fresh: Region):
    told = run([binary(), "doctor"], fresh.env)
    assert told.stdout.splitlines()[-1].endswith("found.")
    assert "→ " in told.stdout


def test_no_secret_is_told(fresh: Region):
    operator = fresh.operator()
    told = run([binary(), "doctor", "--output", "json"], fresh.env).stdout
    assert operator["AWS_SECRET_ACCESS_KEY"] not in told
    assert (fresh.data / "epoch.key").read_text().split()[1] not in told


@pytest.mark.parametrize(
    ("damage", "check", "words"),
    [
        (lambda data: (data / "epoch.key").chmod(0o640), "key file", "chmod 600"),
        (lambda data: (data / "epoch.key").unlink(), "key file", "backup"),
        (lambda data: (data / "epoch.key").write_text("inborn-key-1 beef\n"), "key file", "backup"),
        (lambda data: (data / "operator.env").chmod(0o644), "file modes", "operator's key"),
        (lambda data: data.chmod(0o755), "data directory", "0755"),
        (lambda data: (data / "ca.pem").write_text("no"), "trust", "damaged"),
        (lambda data: os.utime(data / "epoch.key", (4e9, 4e9)), "clock", "behind"),
    ],
)
def test_a_defect_is_found(fresh: Region, damage, check: str, words: str):
    fresh.stop()
    damage(fresh.data)
    status, found = doctor(fresh)
    assert status == 1
    assert found[check]["verdict"] == "problem"
    assert words in found[check]["found"] + found[check]["next"], found[check]


def test_before_the_first_start(make_region):
    region = make_region()
    _, found = doctor(region)
    assert found["data directory"]["verdict"] == "hint"
    assert found["running"]["verdict"] == "hint"
    assert not region.data.exists(), "it changes nothing"


def test_a_port_that_is_taken(make_region):
    region = make_region()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        free = {"INBORN_TLS_PORT": "0", "INBORN_OPERATIONS_PORT": "0"}
        _, found = doctor(region, INBORN_PORT=str(port), **free)
    assert found["ports"]["verdict"] == "problem" and f"127.0.0.1:{port} (--port)" in found["ports"]["found"]
    assert doctor(region, INBORN_PORT="0", **free)[1]["ports"]["verdict"] == "ok"


def test_settings_that_cannot_be_read(make_region, place: Path):
    (place / "inborn.toml").write_text("prot = 1\n")
    _, found = doctor(make_region(), INBORN_CONFIG=str(place / "inborn.toml"))
    assert found["settings"]["verdict"] == "problem" and "prot" in found["settings"]["found"]


@pytest.mark.skipif(not ROOT or shutil.which("unshare") is None, reason="needs a mount namespace of its own")
@pytest.mark.parametrize(("hosts", "verdict"), [("127.0.0.1 sts.eu-test-1.lab.test\n", "ok"), ("", "hint")])
def test_names_of_a_domain_of_ones_own(make_region, place: Path, hosts: str, verdict: str):
    """In namespaces of its own: what resolves names there is one file, and the network is not there."""
    region = make_region()
    (place / "hosts").write_text(hosts)
    script = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'
    inside = ["unshare", "--mount", "--net", "/bin/sh", "-c", script, "sh", place / "hosts"]
    environment = region.env | {"INBORN_REGION": "eu-test-1", "INBORN_DOMAIN": "lab.test"}
    told = run([*inside, binary(), "doctor", "--output", "json"], environment)
    found = {check["check"]: check for check in json.loads(told.stdout)["checks"]}
    assert found["names"]["verdict"] == verdict, found["names"]
    assert "sts.eu-test-1.lab.test" in found["names"]["found"]


@pytest.mark.skipif(not ROOT, reason="needs another user")
def test_who_may_not_look_is_told_so(fresh: Region):
    # Wherever this is built, there everybody reaches it.
    program = shutil.copy(binary(), fresh.home / "inborn")
    as_nobody = ["setpriv", "--reuid=65534", "--clear-groups", program]
    told = run([*as_nobody, "doctor", "--output", "json"], clean_env(fresh.home, INBORN_DATA=str(fresh.data)))
    assert told.returncode == 1
    first = json.loads(told.stdout)["checks"][0]
    assert "cannot be looked into" in first["found"] and "as its owner" in first["next"]
