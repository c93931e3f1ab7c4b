"""systemd itself, as the first process of namespaces of its own, runs the units as they are shipped.

What units take from their programs is nothing that these need.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import HERE, ROOT, binary, run, scratch, wait_until
from netlab import need

UNITS = HERE.parent / "contrib/systemd"
SYSTEMD = Path("/lib/systemd/systemd")
#: Unoptimised programs on a busy computer; for what does not come at all.
PATIENCE = 60.0
pytestmark = [pytest.mark.skipif(not ROOT, reason="only root can start systemd"), pytest.mark.timeout(300)]

#: A control group of its own, which becomes the root of what systemd sees. $1: a directory, $2: the group's name,
#: $3: BOOT, and what that is told.
GROUP = """
mount --make-rprivate /
mount -t tmpfs none "$1"
mkdir "$1/cgroup" "$1/upper" "$1/work" "$1/root"
mount -t cgroup2 none "$1/cgroup"
mkdir "$1/cgroup/$2"
echo $$ > "$1/cgroup/$2/cgroup.procs"
exec unshare --fork --pid --kill-child --mount --ipc --uts --net --cgroup sh -euc "$3" sh "$1" "$4" "$5"
"""
#: This computer's files, with all that is written kept apart, and of its own units nothing that starts by itself.
#: $1: the directory, $2: the program, $3: the units. Nothing of the kernel can be set.
BOOT = """
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro sysfs sys
mount --rbind /dev dev
mount -t tmpfs none run
mount -t tmpfs none tmp
mount -t cgroup2 none sys/fs/cgroup
ip link set lo up
rm -rf etc/systemd/system/* lib/systemd/system/*.wants etc/inborn var/lib/inborn*
mkdir -p mnt etc/systemd/system etc/inborn run/old
cp -r "$3/." etc/systemd/system/
touch usr/bin/inborn
mount --bind "$2" usr/bin/inborn
pivot_root . run/old
cd /
umount -l /run/old
export container=lxc
exec /lib/systemd/systemd --system --unit=units.target --log-target=console --show-status=no
"""
#: What GROUP and BOOT need of a kernel, and of whoever lets this computer have it. $1: a directory, $2: a group's name.
PROBE = """
mount --make-rprivate /
mount -t tmpfs none "$1"
mkdir "$1/cgroup" "$1/upper" "$1/work" "$1/root"
mount -t cgroup2 none "$1/cgroup"
mkdir "$1/cgroup/$2"
sh -c 'echo $$ > "$0"' "$1/cgroup/$2/cgroup.procs"
rmdir "$1/cgroup/$2"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
unshare --fork --pid --mount --ipc --uts --net --cgroup true
"""
#: What is not here: these come at once.
EMPTY = ("units", "sysinit", "basic", "network", "network-online", "time-sync", "nss-user-lookup", "shutdown")


class Systemd:
    """Its first process, and its words."""

    def __init__(self, place: Path):
        self.place, self.group = place, f"inborn-units-{place.name}"
        units, root = place / "units", place / "root"
        shutil.copytree(UNITS, units, ignore=shutil.ignore_patterns("*.conf"))
        for target in EMPTY:
            (units / f"{target}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        self.add("service", "StandardOutput=append:/run/units.log\nStandardError=inherit")
        root.mkdir()
        self.log = (place / "systemd.log").open("w")
        words = ["sh", "-euc", GROUP, "sh", root, self.group, BOOT, binary(), units]
        plain = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        self.pid: int | None = None
        self.outer = subprocess.Popen(
            ["unshare", "--mount", *map(str, words)],
            env=plain,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )

    def start(self) -> None:
        self.pid = self.wait_for(self._first, "systemd is started")
        self.wait_for(lambda: self("systemctl", "is-system-running", check=False) in {"running", "degraded"}, "it runs")

    def _first(self) -> int | None:
        assert self.outer.poll() is None, (self.place / "systemd.log").read_text()
        with contextlib.suppress(OSError, ValueError):
            first = int(Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text())
            return first if Path(f"/proc/{first}/comm").read_text() == "systemd\n" else None
        return None

    def __call__(self, *words: str | Path, check: bool = True, **environment: str) -> str:
        """What a command inside says."""
        plain = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
        inside = ["nsenter", "--all", "--root", "--wd", "--target", str(self.pid), *words]
        done = run(inside, plain | environment)
        if check and done.returncode != 0:
            raise AssertionError(f"{words}: {done.stderr}\n{self.said()}")
        return done.stdout.strip()

    def wait_for(self, condition, what: str):
        return wait_until(condition, what, PATIENCE)

    def add(self, unit: str, lines: str) -> None:
        """A drop-in, before systemd is started."""
        directory = self.place / f"units/{unit}.d"
        directory.mkdir(exist_ok=True)
        (directory / "test.conf").write_text(f"[Service]\n{lines}\n")

    def said(self) -> str:
        """What services wrote."""
        return self("cat", "/run/units.log", check=False)

    def write(self, path: str, text: str) -> None:
        self("sh", "-euc", 'printf %s "$1" > "$2"', "sh", text, path)

    def ended(self, unit: str) -> str:
        """How a service ended, once it has."""
        self.wait_for(lambda: self("systemctl", "is-active", unit, check=False) in {"inactive", "failed"}, unit)
        return self("systemctl", "show", "--property=Result", "--value", unit)

    def end(self) -> None:
        # The first process of a namespace takes all of it with it.
        with contextlib.suppress(ProcessLookupError):
            _ = self.pid and os.kill(self.pid, signal.SIGKILL)
        self.outer.kill()
        self.outer.wait()
        self.log.close()
        clean = 'mount -t cgroup2 none "$1"; [ ! -d "$1/$2" ] || find "$1/$2" -depth -type d -exec rmdir {} +'
        words = ["unshare", "--mount", "sh", "-euc", clean, "sh", self.place / "root", self.group]
        wait_until(lambda: run(words, dict(os.environ)).returncode == 0, "its control groups are gone", PATIENCE)


@pytest.fixture
def systemd() -> Iterator[Systemd]:
    need("systemd-analyze", "systemd")
    need("unshare", "util-linux")
    need("sshd", "openssh-server")
    assert SYSTEMD.exists(), "the package systemd has it"
    with scratch() as place:
        words = ["unshare", "--mount", "sh", "-euc", PROBE, "sh", place, f"inborn-probe-{place.name}"]
        probed = run(words, dict(os.environ))
        if probed.returncode != 0:
            pytest.skip(f"NOT TESTED: this computer lets nobody start systemd in namespaces: {probed.stderr.strip()}")
        one = Systemd(place)
        try:
            one.start()
            for name, directory in (("sysusers", "/usr/lib/sysusers.d"), ("tmpfiles", "/usr/lib/tmpfiles.d")):
                one("mkdir", "-p", directory)
                one.write(f"{directory}/inborn.conf", (UNITS / f"{name}.conf").read_text())
            one("systemd-sysusers", "inborn.conf")
            one("systemd-tmpfiles", "--create", "inborn.conf")
            yield one
        finally:
            one.end()


def test_a_region_and_what_runs_inside_its_machines(systemd: Systemd):
    systemd("systemctl", "start", "inborn.service")
    region = {"INBORN_DATA": "/var/lib/inborn"}
    exports = systemd("inborn", "launch", "--name", "web-1", "--export", **region)
    systemd.write("/run/machine.env", exports.replace("export ", "").replace("'", ""))
    for unit in ("inborn-host-keys", "inborn-host-certificates", "inborn-sensor"):
        directory = f"/run/systemd/system/{unit}.service.d"
        systemd("mkdir", "-p", directory)
        systemd.write(f"{directory}/machine.conf", "[Service]\nEnvironmentFile=/run/machine.env\n")
    systemd("systemctl", "daemon-reload")

    systemd("ssh-keygen", "-A")
    systemd("systemctl", "start", "inborn-host-keys.service")
    assert systemd.ended("inborn-host-keys.service") == "success", systemd.said()
    shown = systemd("inborn", "host-keys", "show", "web-1", **region)
    assert "first, proven" in shown, "ssh-keygen has signed"

    systemd("inborn", "host-keys", "policy", "--certificates", "enabled", **region)
    systemd("mkdir", "-p", "/run/sshd", "/etc/ssh/sshd_config.d")
    systemd("systemctl", "start", "ssh.service")
    systemd("systemctl", "start", "inborn-host-certificates.service")
    assert systemd.ended("inborn-host-certificates.service") == "success", systemd.said()
    assert "hostcertificate /etc/ssh" in systemd("sshd", "-T")

    systemd("systemctl", "start", "inborn-sensor.service")
    systemd.wait_for(lambda: "writes to sensitive files: fanotify" in systemd.said(), "the sensor sees writes")
    assert "does not see  writes" not in systemd.said()
    systemd.write("/etc/ssh/probe", "x")
    systemd.wait_for(lambda: "/etc/ssh/probe" in systemd("inborn", "events", **region), "it tells of one")


def test_a_region_server_by_its_sockets_and_a_host(systemd: Systemd):
    state = "/var/lib/inborn-region"
    systemd.write("/etc/inborn/region.toml", "hosts_port = 4544\n")
    systemd.write("/etc/inborn/region.env", f"INBORN_STORE=sqlite:{state}/store.db\n")
    systemd("systemctl", "start", "inborn-region.socket", "inborn-region-tls.socket")
    systemd("systemctl", "start", "inborn-region.service")
    told = json.loads(systemd("cat", f"{state}/ready.json"))
    assert (told["endpoint"], told["tls_endpoint"]) == ("http://127.0.0.1:80", "https://127.0.0.1:443")
    systemd("inborn", "ps", INBORN_DATA=state)
    systemd("systemctl", "reload", "inborn-region.service")

    token = systemd("inborn", "host", "token", INBORN_DATA=state)
    as_inborn = ["setpriv", "--reuid=inborn", "--regid=inborn", "--clear-groups"]
    join = ["inborn", "host", "join", token, "--region-endpoint", "127.0.0.1:4544", "--data", "/var/lib/inborn-host"]
    joined = systemd(*as_inborn, *join)
    host = re.search(r"h-[0-9a-f]{17}", joined)[0]
    # Both have the same port for operations.
    systemd("sh", "-euc", "sed -i 's/4590/4591/' /etc/systemd/system/inborn-host.service; systemctl daemon-reload")
    systemd("systemctl", "start", "inborn-host.service")
    assert systemd("systemctl", "is-active", "inborn-host.service") == "active"
    assert host in systemd("inborn", "hosts", INBORN_DATA=state)
    connected = "inborn_host_region_connected 1"
    systemd.wait_for(lambda: connected in systemd("curl", "-s", "127.0.0.1:4591/metrics"), "they speak")
