"""A virtual machine that boots on a tap: QEMU, Debian's cloud kernel, and an initramfs with busybox and `inborn`.

Opt-in, for the kernel is 27 MB and software emulation takes a while: `INBORN_QEMU=1 cargo xtask compat -- -k qemu`.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from clients import BUILT
from harness import ROOT, binary
from lab import laboratory
from netlab import need

pytestmark = pytest.mark.skipif(not os.environ.get("INBORN_QEMU"), reason="set INBORN_QEMU=1 to boot a virtual machine")

#: What the guest needs of its kernel, beside what that has built in.
DRIVERS = ("virtio_pci", "virtio_net")
BOOT_SECONDS = 400
HOST, GUEST = "10.77.0.1", "10.77.0.2"
#: The whole of the guest's system.
INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in /modules/*; do insmod $module; done
ip link set lo up
ip address add {GUEST}/24 dev eth0
ip link set eth0 up
ip route add default via {HOST}
. /settings
echo "kernel: $(uname -r)"
echo "asset: $(cat /sys/class/dmi/id/board_asset_tag)"
echo "token v1: $(wget -q -O - http://169.254.169.254/latest/meta-data/instance-id 2>&1 | tail -n 1)"
inborn credentials > /credentials && echo "credentials: $(grep -o '"AccessKeyId": *"ASIA' /credentials)"
inborn whoami
echo "exit: $?"
poweroff -f
"""


def kernel() -> tuple[bytes, dict[str, bytes]]:
    """Debian's newest cloud kernel, and those of the modules that it has; fetched once, installed nowhere."""
    place = BUILT / "kernel"
    if not list(place.glob("boot/vmlinuz-*")):
        place.mkdir(parents=True, exist_ok=True)
        depends = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"], capture_output=True, text=True)
        found = re.search(r"Depends: (linux-image-[0-9]\S+)", depends.stdout)
        assert found, "this system's package lists have no linux-image-cloud-amd64: apt-get update"
        subprocess.run(["apt-get", "download", "-qq", found[1]], cwd=place, check=True)
        package = next(place.glob("linux-image-*.deb"))
        subprocess.run(["dpkg-deb", "--extract", package, place], check=True)
        package.unlink()
    tree = next(place.glob("lib/modules/*"))
    contents: dict[str, bytes] = {}

    def load(name: str) -> None:
        """A module behind those that it depends on."""
        path = next(tree.rglob(f"{name}.ko*"))
        depends = subprocess.run(["modinfo", "-F", "depends", path], capture_output=True, text=True, check=True).stdout
        for other in filter(None, depends.strip().split(",")):
            if other not in contents:
                load(other)
        unpack = {".xz": ["xz", "-dc"], ".zst": ["zstd", "-dc"]}.get(path.suffix, ["cat"])
        contents[name] = subprocess.run([*unpack, path], capture_output=True, check=True).stdout

    for name in DRIVERS:
        load(name)
    return next(place.glob("boot/vmlinuz-*")).read_bytes(), contents


def archive(files: dict[str, tuple[int, bytes]]) -> bytes:
    """Files as the kernel unpacks them: a cpio archive of the form `newc`."""
    parts = []
    for number, (name, (mode, contents)) in enumerate([*files.items(), ("TRAILER!!!", (0, b""))], start=1):
        fields = [number, mode, 0, 0, 1, 0, len(contents), 0, 0, 0, 0, len(name) + 1, 0]
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        parts += [head, b"\0" * (-len(head) % 4), contents, b"\0" * (-len(contents) % 4)]
    return gzip.compress(b"".join(parts), 1)


def system(settings: str, modules: dict[str, bytes]) -> bytes:
    """An initramfs: busybox, `inborn` with the libraries it is linked to, and what to do."""
    plain, program, directory = stat.S_IFREG | 0o644, stat.S_IFREG | 0o755, stat.S_IFDIR | 0o755
    files = {"init": (program, INIT.encode()), "settings": (plain, settings.encode())}
    # Numbered: the shell gives them in this order.
    numbered = enumerate(modules.items(), start=10)
    files |= {f"modules/{number}-{name}.ko": (plain, contents) for number, (name, contents) in numbered}
    files["bin/busybox"] = (program, Path(shutil.which("busybox")).read_bytes())
    # Without its symbols it is a tenth as large, and the emulated machine has to unpack it.
    stripped = subprocess.run(["strip", "-o", "/dev/stdout", binary()], capture_output=True)
    files["bin/inborn"] = (program, stripped.stdout or binary().read_bytes())
    linked = subprocess.run(["ldd", binary()], capture_output=True, text=True, check=True).stdout
    for path in re.findall(r"(/\S+)", linked):
        files[path.lstrip("/")] = (program, Path(path).read_bytes())
    parents = {str(parent) for name in files for parent in Path(name).parents if str(parent) != "."}
    made = dict.fromkeys(sorted({*parents, "proc", "sys", "dev"}), (directory, b""))
    return archive({**made, **files})


def test_a_virtual_machine_says_who_it_is(place: Path):
    need("qemu-system-x86_64", "qemu-system-x86")
    need("busybox", "busybox-static")
    need("modinfo", "kmod")
    if not ROOT:
        pytest.skip("only root can make a tap")
    with laboratory(place, "--bind", "0.0.0.0") as (_, host, region):
        host.ip("tuntap", "add", "tap0", "mode", "tap")
        host.ip("address", "add", f"{HOST}/24", "dev", "tap0")
        host.ip("link", "set", "tap0", "up")
        instance = region.launch("--name", "emulated", "--interface", "tap0")
        image, modules = kernel()
        settings = f"export AWS_REGION={region.name} AWS_ENDPOINT_URL_STS=http://{HOST}:{region.port}\n"
        (place / "kernel").write_bytes(image)
        (place / "system").write_bytes(system(settings, modules))
        argv = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "512", "-nographic", "-no-reboot"]
        argv += ["-kernel", str(place / "kernel"), "-initrd", str(place / "system")]
        argv += ["-append", "console=ttyS0 quiet panic=-1", "-smbios", f"type=2,asset={instance}"]
        argv += ["-netdev", "tap,id=out,ifname=tap0,script=no,downscript=no"]
        argv += ["-device", "virtio-net-pci,netdev=out,romfile="]
        booted = subprocess.run(
            ["ip", "netns", "exec", host.name, *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BOOT_SECONDS,
        )
        told = booted.stdout + booted.stderr
        sys.stdout.write(told)
        assert f"asset: {instance}" in told
        assert "token v1: wget: server returned error: HTTP/1.1 401" in told
        assert re.search(r'credentials: "AccessKeyId": *"ASIA', told)
        assert f"assumed-role/aws:ec2-instance/{instance}" in told
        assert "exit: 0" in told
