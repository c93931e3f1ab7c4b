"""OpenSSH's own server and client: a server with host keys of its own, and a client that asks the region for them."""

from __future__ import annotations

import contextlib
import getpass
import json
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import Region, Result, binary, clean_env, free_port, run, wait_until
from lab import Namespace

SSHD = shutil.which("sshd", path="/usr/sbin:/sbin:/usr/local/sbin:/usr/bin")


def keygen(path: Path, kind: str = "ed25519", comment: str = "root@host") -> Path:
    size = ["-b", "2048"] if kind == "rsa" else []
    argv = ["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-C", comment, "-f", path]
    run(argv, clean_env(path.parent), check=True)
    return path


def host_keys(directory: Path, *kinds: str) -> Path:
    """A directory with host keys, named as OpenSSH names them."""
    directory.mkdir(exist_ok=True)
    for kind in kinds or ("ed25519", "ecdsa", "rsa"):
        keygen(directory / f"ssh_host_{kind}_key", kind)
    return directory


@dataclass
class Server:
    """A running sshd, and where it is reached."""

    address: str
    port: int
    log: Path


def is_safe(path: Path) -> bool:
    """Whether sshd would run what is there: nobody but root can have put it."""
    found = path.stat()
    return found.st_uid == 0 and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@contextlib.contextmanager
def server(
    place: Path,
    keys: Path,
    user_key: Path | None,
    *more: str,
    inside: Namespace | None = None,
    address: str = "127.0.0.1",
) -> Iterator[Server]:
    """An sshd with the host keys of a directory and `more` settings, where `user_key` may log in: on a port of
    127.0.0.1, or on port 22 of all addresses inside a namespace, one of which is `address`."""
    if SSHD is None:
        pytest.skip("sshd is not installed: apt-get install openssh-server")
    listening, port, prefix = "0.0.0.0", 22, inside.words if inside else []
    if inside is None:
        listening, port = "127.0.0.1", free_port()
    authorized = place / f"authorized-{port}"
    authorized.write_text(user_key.with_suffix(".pub").read_text() if user_key else "")
    # Where the privilege separation of Debian's build wants to live; only root has it.
    with contextlib.suppress(PermissionError):
        Path("/run/sshd").mkdir(exist_ok=True)
    lines = [
        f"ListenAddress {listening}:{port}",
        *(f"HostKey {key.with_suffix('')}" for key in sorted(keys.glob("ssh_host_*_key.pub"))),
        f"AuthorizedKeysFile {authorized}",
        "PidFile none",
        "StrictModes no",
        "PermitRootLogin yes",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "UsePAM no",
        "Subsystem sftp internal-sftp",
        *more,
    ]
    config = place / f"sshd-{port}.conf"
    config.write_text("\n".join(lines) + "\n")
    with (place / f"sshd-{port}.log").open("w") as log:
        argv = [*prefix, SSHD, "-D", "-e", "-f", config]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    look = inside.do if inside else lambda work: work()
    try:
        wait_until(lambda: look(lambda: listens(port)) or process.poll() is not None, f"sshd listens\n{log.name}")
        assert process.poll() is None, Path(log.name).read_text()
        yield Server(address, port, Path(log.name))
    finally:
        process.terminate()
        process.wait(10)


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Client:
    """An ssh with the configuration that `inborn ssh-config` prints, and a home of its own; `prefix` is what runs it
    somewhere else."""

    def __init__(self, region: Region, place: Path, prefix: Sequence[str] = ()):
        self.prefix = prefix
        self.home = place / "client"
        self.home.mkdir(mode=0o700)
        self.key = keygen(self.home / "id_ed25519")
        self.env = clean_env(self.home)
        self.config = self.home / "config"
        self.config.write_text(region.cli("ssh-config", "--data", str(region.data)).stdout)

    def forget(self):
        """Waits for nothing: what was learned of host keys a moment ago is gone."""
        shutil.rmtree(self.home / ".cache", ignore_errors=True)

    def login(self, machine: str, at: Server, *more: str) -> Result:
        options = ["BatchMode=yes", f"HostName={at.address}", f"HostKeyAlias={machine}", "IdentitiesOnly=yes"]
        words = [word for option in options for word in ("-o", option)]
        target = ["-p", str(at.port), "-i", self.key, "-l", getpass.getuser(), *more, machine, "echo", "inside"]
        return run([*self.prefix, "ssh", "-F", self.config, *words, *target], self.env, timeout=30)


class Machine:
    """A machine with a metadata endpoint on loopback, and a directory with its host keys."""

    #: What runs a command inside it.
    prefix: Sequence[str] = ()

    def __init__(self, region: Region, place: Path, name: str):
        self.region = region
        launched = json.loads(region.cli("launch", "--name", name, "--output", "json").stdout)
        self.id = launched["instance_id"]
        self.env = clean_env(
            place / "home",
            AWS_EC2_METADATA_SERVICE_ENDPOINT=launched["metadata_endpoint"],
            AWS_ENDPOINT_URL=launched["endpoint"],
        )

    def push(self, keys: Path, *more: str, check: bool = True) -> Result:
        argv = [*self.prefix, binary(), "host-keys", "push", "--once", "--directory", keys, *more]
        return run(argv, self.env, check=check)

    def record(self) -> dict:
        return json.loads(self.region.cli("host-keys", "show", self.id, "--output", "json").stdout)
