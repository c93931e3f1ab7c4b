"""SSH host keys: published by machines, decided about by operators, believed by OpenSSH's client. With a real sshd."""

from __future__ import annotations

import getpass
import json
import re
import shutil
from pathlib import Path

import pytest

from harness import INSIDE, Region, Result, binary, clean_env, run, wait_until
from openssh import Client, Machine, Server, host_keys, keygen, server
from scenes import Scene

ROOT_DIRECTORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def machine(region: Region, place: Path, request: pytest.FixtureRequest) -> Machine:
    return Machine(region, place, request.node.name.replace("_", "-")[:60])


def test_the_first_login_neither_asks_nor_trusts_blindly(scene: Scene, place: Path):
    machine, client, keys = scene.machine("first"), scene.client(), host_keys(place / "keys")
    with scene.server(machine, keys, client.key) as sshd:
        before = client.login(machine.id, sshd)
        assert before.returncode == 255, "a machine without known keys was believed"
        pushed = machine.push(keys)
        assert pushed.stdout.split()[1] == "first" and pushed.stderr == ""
        after = client.login(machine.id, sshd)
        assert (after.returncode, after.stdout) == (0, "inside\n"), after.stderr
        assert after.stderr == "", "ssh asked or warned"
    current = machine.record()["Current"]
    assert (current["Proven"], len(current["Keys"])) == (True, 3)


def test_the_man_in_the_middle_is_refused(scene: Scene, place: Path):
    machine, client, keys = scene.machine("middle"), scene.client(), host_keys(place / "keys", "ed25519")
    machine.push(keys)
    with scene.impostor(machine, host_keys(place / "other", "ed25519"), client.key) as sshd:
        login = client.login(machine.id, sshd)
        assert login.returncode == 255 and "inside" not in login.stdout
        assert "HOST IDENTIFICATION HAS CHANGED" in login.stderr or "Host key verification failed" in login.stderr
        # It was spoken to: what let nobody in was its key.
        spoken_to = lambda: re.search("Connection (closed|reset) by", sshd.log.read_text())  # noqa: E731
        wait_until(spoken_to, "sshd tells that somebody left")
    with scene.server(machine, keys, client.key) as sshd:
        assert client.login(machine.id, sshd).stdout == "inside\n", "the machine itself, again"


def test_a_key_that_was_changed_without_the_old_one_waits_for_an_operator(scene: Scene, place: Path):
    """Unproven or proven by itself: what counts is that the old key says nothing."""
    machine, client, region = scene.machine("changed"), scene.client(), scene.region
    machine.push(host_keys(place / "keys", "ed25519"))
    new = host_keys(place / "new", "ed25519")
    (new / "ssh_host_ed25519_key").rename(place / "elsewhere")
    unproven = machine.push(new)
    assert unproven.stdout.split()[1] == "pending-not-by-old-key" and "not proven: " in unproven.stderr
    assert machine.record()["Pending"]["Proven"] is False
    (place / "elsewhere").rename(new / "ssh_host_ed25519_key")
    pushed = machine.push(new)
    digest, outcome = pushed.stdout.split()
    assert outcome == "pending-not-by-old-key" and "an operator has to approve" in pushed.stderr
    assert machine.record()["Pending"]["Proven"] is True
    with scene.server(machine, new, client.key) as sshd:
        assert client.login(machine.id, sshd).returncode == 255
        refused = region.cli("host-keys", "approve", machine.id, digest.replace("SHA256:", "SHA256:0"), check=False)
        assert refused.returncode == 1 and "look at it first" in refused.stderr
        region.cli("host-keys", "approve", machine.id, digest)
        client.forget()
        assert client.login(machine.id, sshd).stdout == "inside\n"
    record = machine.record()
    assert (record["Current"]["Basis"], record["Pending"], len(record["Past"])) == ("approved", None, 1)


def test_a_key_that_the_old_one_vouches_for_is_taken(scene: Scene, place: Path):
    machine, client = scene.machine("vouched"), scene.client()
    old = host_keys(place / "keys", "ed25519")
    machine.push(old)
    new = host_keys(place / "new", "ed25519")
    pushed = machine.push(new, "--old-key", str(old / "ssh_host_ed25519_key"))
    assert pushed.stdout.split()[1] == "old-key", pushed.stderr
    with scene.server(machine, new, client.key) as sshd:
        assert client.login(machine.id, sshd).stdout == "inside\n"
    with scene.server(machine, old, client.key) as sshd:
        assert client.login(machine.id, sshd).returncode == 255


def test_where_proof_is_demanded_keys_without_it_are_not_served(fresh: Region, place: Path):
    machine = Machine(fresh, place, "strict")
    assert fresh.cli("host-keys", "policy").stdout == "accept-unproven\ncertificates disabled\n"
    assert fresh.cli("host-keys", "policy", "require-proof").stdout.splitlines()[0] == "require-proof"
    keys = host_keys(place / "keys", "ed25519")
    (keys / "ssh_host_ed25519_key").rename(place / "elsewhere")
    assert machine.push(keys).stdout.split()[1] == "pending-unproven"
    unknown = fresh.cli("known-hosts", machine.id, check=False)
    assert unknown.returncode == 1 and unknown.stdout == ""
    (place / "elsewhere").rename(keys / "ssh_host_ed25519_key")
    assert machine.push(keys).stdout.split()[1] == "first"
    assert fresh.cli("known-hosts", machine.id).stdout.startswith(f"{machine.id} ssh-ed25519 ")


class Certified:
    """A machine with host certificates, and a client that knows the region's authority and no key of any machine."""

    def __init__(self, region: Region, place: Path):
        self.machine, self.client = Machine(region, place, "certified"), Client(region, place)
        self.dropin = place / "sshd_config.d"
        self.dropin.mkdir()
        self.known = place / "known_hosts"
        self.known.write_text(region.cli("known-hosts", "--authority").stdout)

    def push(self, keys: Path, *more: str) -> Result:
        return self.machine.push(keys, "--certificates", "--config", str(self.dropin), *more)

    def login(self, sshd: Server, name: str, *more: str) -> Result:
        options = [*more, "BatchMode=yes", "IdentitiesOnly=yes", f"HostKeyAlias={name}", "StrictHostKeyChecking=yes"]
        options += [f"UserKnownHostsFile={self.known}", "GlobalKnownHostsFile=/dev/null", "UpdateHostKeys=no"]
        words = [word for option in options for word in ("-o", option)]
        target = ["-p", str(sshd.port), "-i", self.client.key, "-l", getpass.getuser(), "127.0.0.1", "echo", "inside"]
        return run(["ssh", "-F", "none", *words, *target], self.client.env, timeout=30)


def test_certificates_make_rotations_invisible(fresh: Region, place: Path):
    certified = Certified(fresh, place)
    old = host_keys(place / "old")
    refused = certified.push(old)
    assert "the operator has to allow them" in refused.stderr and list(certified.dropin.iterdir()) == []
    assert (
        fresh.cli("host-keys", "policy", "--certificates", "enabled").stdout.splitlines()[1] == "certificates enabled"
    )
    assert certified.push(old).stderr == ""
    new = host_keys(place / "new")
    for keys in (old, new):
        if keys is new:
            replaced = certified.push(new, "--old-key", str(old / "ssh_host_ed25519_key"))
            assert replaced.stdout.split()[1] == "old-key", replaced.stderr
        with server(place, keys, certified.client.key, f"Include {certified.dropin}/*.conf") as sshd:
            for kind in ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512"):
                login = certified.login(sshd, certified.machine.id, f"HostKeyAlgorithms={kind}-cert-v01@openssh.com")
                assert (login.returncode, login.stdout, login.stderr) == (0, "inside\n", ""), kind
            # A machine of another name is not this one, whoever has signed.
            other = certified.login(sshd, "i-0123456789abcdef0")
            assert other.returncode == 255 and "inside" not in other.stdout
            # Nor is one that is called by what the authority is not asked about.
            assert certified.login(sshd, "10.1.2.3").returncode == 255
    shown = run(
        ["ssh-keygen", "-L", "-f", *(certified.dropin / "inborn-host-certificates").glob("*ed25519*")],
        clean_env(place),
        check=True,
    ).stdout
    assert "host certificate" in shown and certified.machine.id in shown


def test_a_key_that_waits_is_not_certified(fresh: Region, place: Path):
    certified = Certified(fresh, place)
    fresh.cli("host-keys", "policy", "--certificates", "enabled")
    certified.push(host_keys(place / "keys", "ed25519"))
    intruder = host_keys(place / "intruder", "ed25519")
    assert "no certificates were given" in certified.push(intruder).stderr
    with server(place, intruder, certified.client.key, f"Include {certified.dropin}/*.conf") as sshd:
        login = certified.login(sshd, certified.machine.id)
    assert login.returncode == 255 and "inside" not in login.stdout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_units(place: Path):
    units = place / "units"
    # Beside them are drop-ins and what makes users and directories.
    shutil.copytree(ROOT_DIRECTORY / "contrib/systemd", units, ignore=shutil.ignore_patterns("*.conf"))
    for unit in units.iterdir():
        unit.write_text(unit.read_text().replace("/usr/bin/inborn", str(binary())))
    result = run(["systemd-analyze", "verify", "--man=no", *sorted(units.iterdir())], clean_env(place))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_units_delay_no_boot_and_never_stop_to_watch():
    found = (ROOT_DIRECTORY / "contrib/systemd").glob("inborn-host-*")
    units = {unit.name: unit.read_text().splitlines() for unit in found}
    for name in ("inborn-host-keys", "inborn-host-certificates"):
        service, path = units.pop(f"{name}.service"), units.pop(f"{name}.path")
        # Targets wait for what they want to be started: a oneshot is when it has ended, another when ExecStartPre has.
        assert [line for line in service if line.startswith(("Type=", "ExecStartPre="))] == ["Type=exec"], name
        # What TimeoutStartSec limits is over with the start.
        assert "RuntimeMaxSec=10min" in service and not any(line.startswith("TimeoutStartSec=") for line in service)
        command = next(line for line in service if line.startswith("ExecStart="))
        assert command.startswith("ExecStart=/bin/sh -c 'sleep 5; exec /usr/bin/inborn host-keys push"), name
        # Above a limit, its own or that of its service, a .path unit fails and watches no more.
        assert "StartLimitIntervalSec=0" in service and "PathChanged=/etc/ssh" in path, name
        assert [line for line in path if line.startswith("TriggerLimit")] == ["TriggerLimitIntervalSec=0"], name
    assert list(units) == ["inborn-host-certificates.timer"]


def test_a_helper_that_fails_refuses(scene: Scene, place: Path):
    machine, client, keys = scene.machine("helper"), scene.client(), host_keys(place / "keys", "ed25519")
    machine.push(keys)
    client.config.write_text(client.config.read_text().replace("known-hosts --data", "no-such-command --data"))
    with scene.server(machine, keys, client.key) as sshd:
        login = client.login(machine.id, sshd)
    assert login.returncode == 255 and "inside" not in login.stdout


def test_logins_go_on_while_the_region_is_away(own_scene: Scene, place: Path):
    scene = own_scene
    machine, client, keys = scene.machine("away"), scene.client(), host_keys(place / "keys", "ed25519")
    machine.push(keys)
    with scene.server(machine, keys, client.key) as sshd:
        assert client.login(machine.id, sshd).stdout == "inside\n"
        scene.region.stop()
        # What was learned is older than ten seconds: it counts because nobody can be asked.
        for file in (client.home / ".cache/inborn/known-hosts").iterdir():
            words = file.read_text().split(" ", 5)
            words[4] = str(int(words[4]) - 3600)
            file.write_text(" ".join(words))
        assert client.login(machine.id, sshd).stdout == "inside\n"
        client.forget()
        login = client.login(machine.id, sshd)
        assert login.returncode == 255 and "is not known" in login.stderr.replace("are not known", "is not known")


def test_a_machine_that_is_gone_is_no_longer_believed(scene: Scene, place: Path):
    machine, client, keys = scene.machine("gone"), scene.client(), host_keys(place / "keys", "ed25519")
    machine.push(keys)
    with scene.server(machine, keys, client.key) as sshd:
        assert client.login(machine.id, sshd).stdout == "inside\n"
        scene.region.cli("terminate", machine.id)
        client.forget()
        assert client.login(machine.id, sshd).returncode == 255


def test_keys_go_into_files_and_dns(machine: Machine, place: Path, region: Region):
    keys = host_keys(place / "keys")
    machine.push(keys)
    lines = [line for line in region.cli("known-hosts", "--all").stdout.splitlines() if line.startswith(machine.id)]
    assert [line.split(" ")[1] for line in lines] == ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"]
    assert lines[0].split(" ")[0].split(",")[0] == machine.id
    records = region.cli("known-hosts", "--format", "sshfp", machine.id).stdout.splitlines()
    expected = []
    for kind in ("ed25519", "ecdsa", "rsa"):
        argv = ["ssh-keygen", "-r", machine.id, "-f", keys / f"ssh_host_{kind}_key.pub"]
        expected += [r for r in run(argv, clean_env(place), check=True).stdout.splitlines() if r.split(" ")[4] == "2"]
    assert records == expected


def test_the_script_of_the_package_publishes_and_reads(region: Region, place: Path):
    """Its form, in other words: string-built JSON of every .pub file, openssl, curl; without DMI, in a pocket."""
    keys = host_keys(place / "keys")
    keygen(place / "ca")
    signing = ["ssh-keygen", "-q", "-s", place / "ca", "-h", "-I", "host", keys / "ssh_host_ed25519_key.pub"]
    run(signing, clean_env(place), check=True)
    shutil.copy(INSIDE / "harvest.sh", place / "harvest.sh")
    script = (
        f"cd {place} && sh harvest.sh Put keys && sh harvest.sh Get keys"
        " && sh harvest.sh Put keys i-0123456789abcdef0 && sh harvest.sh Get keys i-0123456789abcdef0"
    )
    inside = run([binary(), "run", "--", "sh", "-c", script], region.env, check=True)
    put, put_status, got, got_status, *foreign = inside.stdout.splitlines()
    assert (put_status, json.loads(put)["Outcome"]) == ("200", "first")
    lines = [(keys / f"ssh_host_{kind}_key.pub").read_text().strip() for kind in ("ed25519", "ecdsa", "rsa")]
    assert (got_status, got) == ("200", json.dumps({"HostKeys": lines}, separators=(",", ":")))
    # As AWS's own test cuts the key out: all that stands between the last ssh-rsa and the last quotation mark.
    assert got.rsplit("ssh-rsa", 1)[1].rsplit('"', 1)[0] == lines[2].removeprefix("ssh-rsa")
    for body, status in zip(foreign[::2], foreign[1::2], strict=True):
        assert status == "400" and json.loads(body)["Output"]["__type"].endswith("#AuthException")
    record = [line for line in region.audit() if line["eventName"] == "PutEC2HostKeys"][-2]
    assert record["responseElements"]["outcome"] == "first"
