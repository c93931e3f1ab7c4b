"""The recipe of an image, `contrib/Containerfile`, as Podman builds and runs it.

Nothing is fetched from a registry. What the recipe starts from is stood in for, by two images that are made of a few
files of this computer: one with a compiler that only hands out the program under test, once it has seen what it was
sent; and one of the C library and a user. All else is the recipe's: what is copied, whose it is, what is started, how.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet_calls import WHOAMI, Answer, call, keys_of
from fleet_people import EC2
from harness import READY_SECONDS, ROOT, binary, read_exports, run, wait_until
from lab import Lab, Namespace
from netlab import need

RECIPE = Path(__file__).resolve().parent.parent / "contrib/Containerfile"
#: Who images of the kind that the recipe is built on run as: `nonroot`.
NONROOT = 65532
#: What the recipe says about running it, but for the published ports: the network is a namespace of the test's.
CONFINED = ["--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges"]
#: Where the program listens in a container.
PORT, OPERATIONS_PORT = 4580, 4590
#: What the recipe calls, in the place of the compiler.
CARGO = """#!/bin/sh
set -eu
[ "$*" = "build --locked --release --package inborn" ]
for one in Cargo.toml Cargo.lock LICENSE crates/cli/src/main.rs xtask/Cargo.toml; do [ -f "$one" ] || exit 3; done
for one in target .git compat contrib docs rust-toolchain.toml; do [ ! -e "$one" ] || exit 4; done
mkdir -p target/release
cp /inborn target/release/inborn
"""


def put(files: list[str], into: Path) -> None:
    """Copies programs of this computer, and the libraries that they are linked with."""
    told = [subprocess.run(["ldd", file], check=True, capture_output=True, text=True).stdout for file in files]
    for file in {*files, *re.findall(r"/\S+", " ".join(told))}:
        there = into / file.lstrip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, there)


@dataclass
class Podman:
    """Podman with a storage of its own, and a network that has loopback alone."""

    place: Path
    space: Namespace

    def words(self, *argv: str | Path) -> list[str]:
        own = ["--root", self.place / "root", "--runroot", self.place / "run", "--tmpdir", self.place / "tmp"]
        # Of runtimes the one that takes cgroups as it finds them.
        how = [
            "--storage-driver",
            "vfs",
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "none",
            "--runtime",
            "runc",
        ]
        return [str(word) for word in ("nsenter", f"--net={self.space.path}", "--", "podman", *own, *how, *argv)]

    def __call__(self, *argv: str | Path, check: bool = True) -> str:
        env = {"PATH": os.environ["PATH"], "HOME": str(self.place)}
        done = run(self.words(*argv), env, timeout=180, check=check)
        return done.stdout.strip()

    def make(self, name: str, of: Path, *last: str) -> None:
        recipe = self.place / f"{name}.recipe"
        recipe.write_text("\n".join(["FROM scratch", "COPY . /", *last, ""]))
        self("build", "--isolation", "chroot", "--layers=false", "-f", recipe, "-t", name, of)


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    if not ROOT:
        pytest.skip("NOT TESTED: images are made and run by root here")
    need("podman", "podman")
    need("runc", "runc")
    need("strip", "binutils")
    # The path of a socket is short, whatever TMPDIR is.
    place, lab = Path(tempfile.mkdtemp(prefix="inborn-image-", dir="/tmp")), Lab()
    podman = Podman(place, lab.namespace("image"))
    try:
        yield podman
        print(podman("ps", "--all", check=False))
    finally:
        podman("rm", "--all", "--force", "--time", "5", check=False)
        lab.close()
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="module")
def image(podman: Podman) -> dict:
    """Built by the recipe; what it is, as Podman tells it."""
    base, builder = podman.place / "base", podman.place / "builder"
    put([str(binary())], base)
    (base / str(binary()).lstrip("/")).unlink()
    assert not [*base.rglob("inborn")]
    for name, text in {
        "passwd": f"root:x:0:0::/:/sbin/nologin\nnonroot:x:{NONROOT}:{NONROOT}::/:/sbin/nologin\n",
        "group": f"root:x:0:\nnonroot:x:{NONROOT}:\n",
    }.items():
        (base / "etc").mkdir(exist_ok=True)
        (base / "etc" / name).write_text(text)
    put(["/bin/sh", "/bin/mkdir", "/bin/cp"], builder)
    # As the profile of a release does. Each step copies all.
    subprocess.run(["strip", "-o", builder / "inborn", binary()], check=True)
    (builder / "bin/cargo").write_text(CARGO)
    (builder / "bin/cargo").chmod(0o755)
    podman.make("base", base, f"USER {NONROOT}")
    podman.make("builder", builder)
    given = ["--build-arg", "BUILDER=localhost/builder", "--build-arg", "BASE=localhost/base"]
    podman(
        "build", "--isolation", "chroot", "--layers=false", *given, "-f", RECIPE, "-t", "inborn", RECIPE.parent.parent
    )
    return json.loads(podman("image", "inspect", "inborn"))[0]


# With the image that it is the first to ask for.
@pytest.mark.timeout(600)
def test_the_image_has_the_program_and_says_how_it_is_run(image: dict):
    config = image["Config"]
    assert (config["Entrypoint"], config["Cmd"], config["StopSignal"]) == (["/usr/bin/inborn"], ["up"], "SIGTERM")
    assert (config["User"], list(config["Volumes"])) == (str(NONROOT), ["/var/lib/inborn"])
    assert set(config["ExposedPorts"]) == {"4580/tcp", "4543/tcp", "4590/tcp"}
    own = {"INBORN_DATA=/var/lib/inborn/state", "INBORN_BIND=0.0.0.0", "INBORN_LOG_FORMAT=json"}
    assert own <= set(config["Env"])


def ready(podman: Podman) -> int:
    """What /readyz says, from outside of the container; 0 if nothing is said."""

    def ask() -> int:
        connection = http.client.HTTPConnection("127.0.0.1", OPERATIONS_PORT, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    return podman.space.do(ask)


@pytest.mark.timeout(300)
def test_a_container_without_any_privilege_serves_and_keeps_its_state(podman: Podman, image: dict):
    # Podman's own limits may be above those that this computer lets anybody have.
    files = min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    limits = ["--ulimit", f"nofile={files}:{files}", "--ulimit", "nproc=4096:4096"]
    where = ["--name", "one", "--network", "host", "--volume", "state:/var/lib/inborn"]
    podman("run", "--detach", *where, *limits, *CONFINED, "inborn")
    volume = Path(podman("volume", "inspect", "state", "--format", "{{.Mountpoint}}"))
    state = volume / "state"

    def is_ready(what: str) -> None:
        wait_until(lambda: ready(podman) == 200, f"{what}\n{podman('logs', 'one', check=False)}", READY_SECONDS)

    def asked(service: str, body: str) -> Answer:
        keys = keys_of(read_exports((state / "operator.env").read_text()))
        answer = podman.space.do(lambda: call(("127.0.0.1", PORT), service, body, keys))
        assert answer.status == 200, answer.body
        return answer

    is_ready("the container is ready")
    process = Path("/proc") / podman("inspect", "one", "--format", "{{.State.Pid}}")
    told = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
    assert told["Uid"].split() == [str(NONROOT)] * 4
    assert {told[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16} and told["NoNewPrivs"] == "1"
    root = next(line for line in (process / "mounts").read_text().splitlines() if line.split()[1] == "/")
    assert "ro" in root.split()[3].split(","), root
    # What it is made of is as the recipe says: nobody else reads the keys.
    found = state.stat()
    assert (found.st_uid, found.st_gid, oct(found.st_mode & 0o7777)) == (NONROOT, NONROOT, "0o700")

    who = asked("sts", WHOAMI).all("Arn")
    launched = asked("ec2", f"Action=RunInstances&{EC2}&ImageId=ami-12345678&MinCount=1&MaxCount=1").all("instanceId")
    podman("stop", "--time", "20", "one")
    assert podman("inspect", "one", "--format", "{{.State.ExitCode}}") == "0", podman("logs", "one")
    assert ready(podman) == 0
    podman("start", "one")
    is_ready("the container is ready again")
    assert asked("sts", WHOAMI).all("Arn") == who
    assert asked("ec2", f"Action=DescribeInstances&{EC2}").all("instanceId") == launched

    # Another container, as after an upgrade, has the state of the volume.
    podman("rm", "--force", "--time", "20", "one")
    podman("run", "--detach", *where, *limits, *CONFINED, "inborn")
    is_ready("another container is ready")
    assert asked("ec2", f"Action=DescribeInstances&{EC2}").all("instanceId") == launched
