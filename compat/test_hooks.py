"""`inborn hook` and its callers in contrib/: a machine has its identity from what starts it, for as long as it runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import HERE, Result, binary, run, wait_until
from lab import Lab, LabRegion, Namespace, laboratory, needs_lab

pytestmark = needs_lab

CONTRIB = HERE.parent / "contrib"
OPTIONAL = ["--http-tokens", "optional"]
UUID = "c7a5fdbd-cdaf-9455-926a-d65c16db1809"


@pytest.fixture
def bare(place: Path) -> Iterator[tuple[Lab, Namespace, LabRegion]]:
    """A host with a running `up`."""
    with laboratory(place) as parts:
        yield parts


def hook(region: LabRegion, *words: str, told: str = "", check: bool = True, **variables: str) -> Result:
    """A program beside the region, told something on standard input."""
    result = subprocess.run(
        [*region.command_prefix, *words],
        env=region.env | {"INBORN_BIN": str(binary())} | variables,
        input=told,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert not check or result.returncode == 0, result.stderr
    return result


def machines(region: LabRegion, *, all: bool = False) -> list[dict]:
    return json.loads(region.cli("ps", "--output", "json", *(["--all"] if all else [])).stdout)


def test_start_stop_and_end_may_be_called_any_number_of_times(bare):
    lab, host, region = bare
    guest = lab.guest(host, "hg0", "g0")
    start = [str(binary()), "hook", "start", "test/1", "--name", "web", "--interface", "hg0"]
    instance = hook(region, *start).stdout.strip()
    assert hook(region, *start).stdout.strip() == instance
    assert guest.who() == instance
    keys = guest.metadata().identity()["AccessKeyId"]
    for _ in range(2):
        hook(region, str(binary()), "hook", "stop", "test/1")
        assert guest.hears_nobody()
        assert machines(region)[0]["state"] == "stopped"
    assert hook(region, *start).stdout.strip() == instance, "a machine that was off is the same machine"
    assert guest.metadata().identity()["AccessKeyId"] != keys, "with other credentials"
    for _ in range(2):
        hook(region, str(binary()), "hook", "end", "test/1")
        assert machines(region) == []
    assert hook(region, *start).stdout.strip() != instance
    assert len(machines(region)) == 1
    hook(region, str(binary()), "hook", "stop", "test/nobody")
    hook(region, str(binary()), "hook", "end", "test/nobody")


def test_a_start_that_cannot_be_attached_leaves_no_machine(bare):
    _, _, region = bare
    words = [str(binary()), "hook", "start", "test/1", "--interface", "none0"]
    result = hook(region, *words, check=False)
    assert result.returncode == 1 and "there is no network interface none0" in result.stderr
    assert machines(region) == []


def oci_state(status: str, pid: int, *, bundle: str = "/bundle", **annotations: str) -> str:
    """As the specification has it."""
    state = {"ociVersion": "1.0.2", "id": "web-1", "status": status, "pid": pid, "bundle": bundle}
    return json.dumps(state | {"annotations": annotations})


def test_the_state_of_an_oci_container(bare):
    lab, host, region = bare
    inside = lab.namespace("container")
    process = subprocess.Popen(["ip", "netns", "exec", inside.name, "sleep", "1000"])
    oci = [str(binary()), "hook", "oci", *OPTIONAL]
    try:
        wait_until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", "it sleeps inside")
        for _ in range(2):
            hook(
                region, *oci, told=oci_state("creating", process.pid, **{"inborn.name": "web", "inborn.tag.role": "w"})
            )
        (machine,) = machines(region)
        assert (machine["name"], machine["tags"]["role"]) == ("web", "w")
        assert inside.who() == machine["instance_id"]
        # Another container of the same pod is the same machine.
        shared = {"io.kubernetes.cri.container-type": "container"}
        hook(region, *oci, told=oci_state("creating", process.pid, **shared).replace("web-1", "web-2"))
        assert len(machines(region)) == 1
        # One of the same id under another runtime, and one that says it is somebody else, do not become the first.
        hook(region, *oci, told=oci_state("stopped", 0, bundle="/elsewhere"))
        stolen = {"inborn.tag.inborn:origin": "oci/web-1@/bundle"}
        claim = oci_state("creating", process.pid, bundle="/elsewhere", **stolen)
        refused = hook(region, *oci, told=claim, check=False)
        assert refused.returncode == 1 and "Duplicate tag key 'inborn:origin'" in refused.stderr
        assert [each["instance_id"] for each in machines(region)] == [machine["instance_id"]]
        assert inside.who() == machine["instance_id"]
        for _ in range(2):
            hook(region, *oci, told=oci_state("stopped", 0))
        assert machines(region) == []
        assert inside.hears_nobody()
    finally:
        process.kill()
        process.wait()


def test_a_container_with_the_hosts_network_has_no_identity(bare):
    _, host, region = bare
    process = subprocess.Popen(["ip", "netns", "exec", host.name, "sleep", "1000"])
    try:
        wait_until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", "it sleeps beside `up`")
        hook(region, str(binary()), "hook", "oci", told=oci_state("creating", process.pid))
        assert machines(region) == []
    finally:
        process.kill()
        process.wait()


def bundle(place: Path, region: LabRegion, command: list[str]) -> Path:
    """An OCI bundle whose programs are this computer's, read-only, and whose network is its own."""
    root = place / "bundle" / "rootfs"
    root.mkdir(parents=True)
    for name in ["bin", "sbin", "lib", "lib64"]:
        if Path("/", name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    for name in ["usr", "proc", "dev", "etc", "tmp"]:
        (root / name).mkdir()
    words = ["inborn", "hook", "oci", *OPTIONAL]
    calling = {"path": str(binary()), "args": words, "env": [f"{name}={value}" for name, value in region.env.items()]}
    config = {
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": command, "env": ["PATH=/usr/bin:/bin"], "cwd": "/"},
        "root": {"path": "rootfs", "readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]},
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ["pid", "mount", "ipc", "uts", "network"]]},
        "hooks": {"createRuntime": [calling], "poststop": [calling]},
        "annotations": {"inborn.name": "in-a-box"},
    }
    (place / "bundle" / "config.json").write_text(json.dumps(config))
    return place / "bundle"


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_a_real_runtime_gives_its_container_an_identity(bare, place: Path, runtime: str):
    if shutil.which(runtime) is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{runtime} is not there: .ci/run installs it")
        pytest.skip(f"{runtime} is not there; on Debian: apt-get install {runtime}")
    lab, host, region = bare
    url = "http://169.254.169.254/latest/meta-data/instance-id"
    path = bundle(place, region, ["/usr/bin/curl", "-s", "-m", "5", url])
    # Where no control groups are mounted, they are for this command alone.
    mounting = 'mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
    words = [runtime, "--root", str(place / "state"), "run", "--bundle", str(path), f"{lab.prefix}-box"]
    result = hook(region, "unshare", "--mount", "sh", "-c", mounting, "sh", *words, check=False)
    assert result.returncode == 0, result.stderr
    (machine,) = machines(region, all=True)
    assert (result.stdout, machine["name"]) == (machine["instance_id"], "in-a-box")
    assert machine["state"] == "terminated", "with its container"


def domain(*, asset: str = "", device: str = "hg0") -> str:
    """A domain's XML, as far as matters."""
    board = f"<baseBoard><entry name='asset'>{asset}</entry></baseBoard>"
    return (
        f"<domain type='kvm' id='3'><name>web-17</name><uuid>{UUID}</uuid>"
        f"<sysinfo type='smbios'>{board}</sysinfo><devices>"
        "<interface type='bridge'><source bridge='br0'/><target dev='vnet0'/><alias name='net0'/></interface>"
        f"<interface type='ethernet'><mac address='52:54:00:12:34:56'/><target dev='{device}'/>"
        "<alias name='ua-inborn'/></interface></devices></domain>"
    )


def test_a_domain_of_libvirt(bare):
    lab, host, region = bare
    guest = lab.guest(host, "hg0", "g0")
    script = str(CONTRIB / "libvirt/qemu")
    hook(region, script, "web-17", "prepare", "begin", "-", told=domain())
    assert machines(region) == []
    hook(region, script, "web-17", "started", "begin", "-", told=domain())
    (machine,) = machines(region)
    assert guest.who() == machine["instance_id"] and machine["name"] == "web-17"
    assert guest.metadata().get("meta-data/mac") == "52:54:00:12:34:56"
    hook(region, script, "web-17", "reconnect", "begin", "-", told=domain())
    hook(region, script, "web-17", "stopped", "end", "-", told=domain())
    assert guest.hears_nobody()
    hook(region, script, "web-17", "started", "begin", "-", told=domain())
    assert guest.who() == machine["instance_id"]
    failed = hook(region, script, "web-17", "started", "begin", "-", told="no XML")
    assert "web-17 has no identity" in failed.stderr, "and libvirt starts the domain all the same"


def test_a_domain_with_an_asset_tag_is_that_machine(bare):
    lab, host, region = bare
    guest = lab.guest(host, "hg0", "g0")
    instance = region.launch("--name", "by-hand")
    script = str(CONTRIB / "libvirt/qemu")
    hook(region, script, "web-17", "started", "begin", "-", told=domain(asset=instance))
    assert guest.who() == instance
    hook(region, script, "web-17", "stopped", "end", "-", told=domain(asset=instance))
    assert [machine["state"] for machine in machines(region)] == ["stopped"]


def stand_in(place: Path, name: str, script: str) -> None:
    path = place / "stand-ins" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_virtual_machine_of_proxmox(bare, place: Path):
    lab, host, region = bare
    guest = lab.guest(host, "tap101i1", "g0")
    host.ip("link", "add", "vmbr0", "type", "bridge")
    host.ip("link", "set", "tap101i1", "master", "vmbr0")
    (place / "qemu-server").mkdir()
    (place / "qemu-server/101.conf").write_text(
        "name: web\nnet0: virtio=BC:24:11:00:00:00,bridge=vmbr0\nnet1: virtio=BC:24:11:2E:9A:0F,bridge=vmbr0\n"
        "\n[before]\nnet1: virtio=BC:24:11:00:00:01,bridge=vmbr0\n"
    )
    script = str(CONTRIB / "proxmox/inborn-hookscript")
    for phase in ["pre-start", "post-start"]:
        hook(region, script, "101", phase, PVE_CONFIG=str(place))
    (machine,) = machines(region)
    assert guest.who() == machine["instance_id"] and machine["name"] == "vm-101"
    assert guest.metadata().get("meta-data/mac") == "bc:24:11:2e:9a:0f"
    for phase in ["pre-stop", "post-stop"]:
        hook(region, script, "101", phase, PVE_CONFIG=str(place))
    assert machines(region)[0]["state"] == "stopped" and guest.hears_nobody()


def test_a_container_of_proxmox(bare, place: Path):
    lab, host, region = bare
    inside = lab.namespace("container")
    (place / "lxc").mkdir()
    (place / "lxc/102.conf").write_text("")
    process = subprocess.Popen(["ip", "netns", "exec", inside.name, "sleep", "1000"])
    try:
        wait_until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", "it sleeps inside")
        stand_in(place, "lxc-info", f'[ "$*" = "-p -H -n 102" ] && echo {process.pid}')
        path = f"{place / 'stand-ins'}:{region.env['PATH']}"
        script = str(CONTRIB / "proxmox/inborn-hookscript")
        hook(region, script, "102", "post-start", PVE_CONFIG=str(place), PATH=path)
        assert inside.who() == machines(region)[0]["instance_id"]
    finally:
        process.kill()
        process.wait()


def test_a_microvm_of_firecracker(bare, place: Path):
    """The stand-in is what Firecracker is to its host: a program that runs for a while on a tap made for it."""
    _, host, region = bare
    stand_in(place, "firecracker", "ip link show fc-vm1 > /dev/null; inborn describe vm1 --output json; exit 7")
    script = str(CONTRIB / "firecracker/inborn-firecracker")
    stand_in(place, "inborn", f'echo "$*" >> {place}/asked; exec {binary()} "$@"')
    programs = {f"{name.upper()}_BIN": str(place / "stand-ins" / name) for name in ["inborn", "firecracker"]}
    result = hook(region, script, "vm1", "--no-api", check=False, INBORN_MAC="06:00:AC:10:00:02", **programs)
    assert result.returncode == 7, result.stderr
    instance, rest = result.stdout.split("\n", 1)
    facts = json.loads(rest)
    assert facts["instance_id"] == instance
    assert "--interface fc-vm1 --mac 06:00:AC:10:00:02\n" in (place / "asked").read_text()
    assert facts["metadata_endpoint"] == "http://169.254.169.254 through network interface fc-vm1"
    assert machines(region) == []
    assert host.ip("link", "show", "fc-vm1", check=False).returncode != 0


def test_the_scripts_are_clean():
    if shutil.which("shellcheck") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("shellcheck is not there: .ci/run installs it")
        pytest.skip("shellcheck is not there; on Debian: apt-get install shellcheck")
    scripts = [path for path in CONTRIB.rglob("*") if path.is_file() and path.read_bytes().startswith(b"#!/bin/sh")]
    assert len(scripts) >= 3
    run(["shellcheck", *scripts], dict(os.environ), check=True)
