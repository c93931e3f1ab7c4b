"""Starts and stops the real binary, and gives its clients an environment with nothing of this machine's owner in it."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import boto3
from botocore.config import Config

HERE = Path(__file__).resolve().parent
#: Scripts that tests run inside a pocket.
INSIDE = HERE / "inside"
#: Where the audit stream is, under the data directory.
AUDIT_GLOB = "audit/*.jsonl*"
#: The key file, under the data directory.
KEY_FILE = "epoch.key"
INSTANCE_ID = re.compile(r"^i-[0-9a-f]{17}$")
ROOT = os.geteuid() == 0
#: Who "an unprivileged user" is.
NOBODY = 65534
#: A cold start of an unoptimised binary on a busy machine; the promise (under 2 s) is checked by its own test.
READY_SECONDS = 30.0
#: How long something that happens "at once, elsewhere" may take.
SOON_SECONDS = 10.0
#: Ports that the kernel gives to nobody who asks for any: those are 32768 and above (`net.ipv4.ip_local_port_range`).
PORTS = range(10_000, 32_000)
#: A client that neither retries nor waits, so that a test sees the first answer.
ONCE = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20)

Result = subprocess.CompletedProcess


def binary() -> Path:
    """The program under test: INBORN_BIN, as `cargo xtask` sets it, else the debug build."""
    path = Path(os.environ.get("INBORN_BIN") or HERE.parent / "target/debug/inborn")
    if not path.is_file():
        raise RuntimeError(f"{path} does not exist: run `cargo xtask compat`, or set INBORN_BIN")
    return path


def tool(name: str) -> str:
    """A program of the Python environment that the tests run in."""
    return str(Path(sys.executable).parent / name)


def clean_env(home: Path, **extra: str) -> dict[str, str]:
    """What a fresh login has, with `inborn` and `aws` on the path."""
    path = [
        str(binary().parent),
        str(Path(sys.executable).parent),
        "/usr/local/bin",
        "/usr/bin",
        "/bin",
        "/usr/sbin",
        "/sbin",
    ]
    return {"PATH": ":".join(path), "HOME": str(home), "LANG": "C.UTF-8", **extra}


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory that any user may enter (pytest's own are closed), removed at the end."""
    path = Path(tempfile.mkdtemp(prefix="inborn-compat-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def run(argv: Sequence[str | Path], env: dict[str, str], *, timeout: float = 60, check: bool = False, **more) -> Result:
    """Runs a program to its end with captured text; `check` shows both streams where it fails."""
    result = subprocess.run(
        [str(word) for word in argv],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        **more,
    )
    if check and result.returncode != 0:
        command = " ".join(map(str, argv))
        raise AssertionError(
            f"`{command}` exited {result.returncode}\n--- out\n{result.stdout}\n--- err\n{result.stderr}"
        )
    return result


def wait_until(condition, what: str, seconds: float = SOON_SECONDS):
    """Polls until `condition()` is true and returns that; fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def at_best_within(seconds: float, measure: Callable[[int], float], tries: int = 3) -> None:
    """Asserts a promise of speed: `measure()`, told which try it is, gives less in one of them.

    A computer that has much else to do is slow now and then; what is slow itself always is.
    """
    times: list[float] = []
    while len(times) < tries:
        times.append(measure(len(times)))
        if times[-1] < seconds:
            return
    raise AssertionError(f"never within {seconds} s: {times}")


#: Tests in other processes begin elsewhere.
_steps = itertools.count(os.getpid() * 64)


def free_port() -> int:
    """A port that nobody else is given before it is bound, nor while who was bound to it is away."""
    while True:
        port = PORTS[next(_steps) % len(PORTS)]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


def read_exports(text: str) -> dict[str, str]:
    """`export NAME=value` lines, as a shell reads them."""
    script = 'set -eu; eval "$1"; exec env -0'
    shell = subprocess.run(
        ["/bin/sh", "-c", script, "sh", text], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    pairs = (pair.split("=", 1) for pair in shell.stdout.split("\0") if "=" in pair)
    return {name: value for name, value in pairs if name not in {"PATH", "PWD", "OLDPWD", "SHLVL", "_"}}


class Region:
    """One `inborn up` with a data directory of its own."""

    def __init__(self, data: Path, home: Path, *flags: str):
        self.data, self.home, self.flags = data, home, flags
        #: The same after a restart: no other process has taken them, and it takes none of its machines' own.
        self.ports = [
            word for flag in ("--port", "--tls-port", "--operations-port") for word in (flag, str(free_port()))
        ]
        self.process: subprocess.Popen[str] | None = None
        self.ready: dict = {}
        self.log = home / f"up-{uuid.uuid4().hex[:8]}.log"
        #: Another copy of the binary, and words before it: for a region of another user.
        self.program: Path = binary()
        self.command_prefix: list[str] = []

    @property
    def env(self) -> dict[str, str]:
        """For commands that should find this region."""
        return clean_env(self.home, INBORN_DATA=str(self.data))

    def command(self, ready: Path, *more: str) -> list[str]:
        flags = ["--data", str(self.data), *self.ports, "--ready-file", str(ready), *self.flags, *more]
        return [*self.command_prefix, str(self.program), "up", *flags]

    def start(self) -> Region:
        ready = self.home / f"ready-{uuid.uuid4().hex[:8]}.json"
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command(ready), env=clean_env(self.home), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        process = self.process
        wait_until(
            lambda: ready.exists() or process.poll() is not None, f"`up` is ready\n{self.output()}", READY_SECONDS
        )
        if process.poll() is not None:
            raise AssertionError(f"`up` exited {process.returncode}\n{self.output()}")
        self.ready = json.loads(ready.read_text())
        return self

    def output(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> float:
        """SIGTERM; returns how many seconds the end took."""
        return self._end(signal.SIGTERM)

    def kill(self) -> float:
        return self._end(signal.SIGKILL)

    def _end(self, number: int) -> float:
        if not self.alive():
            return 0.0
        assert self.process is not None
        started = time.monotonic()
        self.process.send_signal(number)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"`up` still ran 20 s after signal {number}\n{self.output()}") from None
        return time.monotonic() - started

    @property
    def name(self) -> str:
        return self.ready["region"]

    @property
    def account(self) -> str:
        return self.ready["account"]

    @property
    def endpoint(self) -> str:
        return self.ready["endpoint"]

    @property
    def port(self) -> int:
        return int(self.endpoint.rsplit(":", 1)[1])

    def operator(self) -> dict[str, str]:
        """The variables of operator.env."""
        return read_exports(Path(self.ready["operator_env"]).read_text())

    def client(self, service: str, credentials: dict[str, str] | None = None, **more):
        """A boto3 client of this region: the operator's, or that of `credentials` as metadata serves them."""
        return boto_client(service, self.endpoint, self.name, credentials or self.operator(), **more)

    def do(self, work):
        """What `work()` returns where the region's endpoint is reached."""
        return work()

    def cli(self, *argv: str, check: bool = True, timeout: float = 60) -> Result:
        """`inborn …` against this region."""
        return run([binary(), *argv], self.env, check=check, timeout=timeout)

    def audit(self) -> list[dict]:
        """Every line of the audit stream, in order."""
        return [json.loads(line) for line in self.audit_text().splitlines()]

    def audit_text(self) -> str:
        """The audit stream as it stands in its files. At midnight a new one is begun, and the old one compressed."""
        while True:
            files = self._audit_files()
            with contextlib.suppress(FileNotFoundError):
                parts = [
                    gzip.decompress(one.read_bytes()) if one.suffix == ".gz" else one.read_bytes() for one in files
                ]
                if self._audit_files() == files:
                    return b"".join(parts).decode()

    def _audit_files(self) -> list[Path]:
        found = [file for file in sorted(self.data.glob(AUDIT_GLOB)) if file.suffix != ".new"]
        # Compressed, it is there twice for a moment.
        return list({file.name.removesuffix(".gz"): file for file in found}.values())

    def state_of(self, instance: str) -> str:
        """The state name that DescribeInstances tells."""
        found = self.client("ec2").describe_instances(InstanceIds=[instance])
        return found["Reservations"][0]["Instances"][0]["State"]["Name"]

    def resident_kib(self) -> int:
        """Memory of `up` that is in RAM."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.M).group(1))


def boto_client(service: str, endpoint: str, region: str, credentials: dict[str, str], **more):
    """A client with explicit keys: `AWS_…` variables, or the names of a credential document."""
    session = boto3.session.Session()
    return session.client(
        service,
        endpoint_url=endpoint,
        region_name=region,
        config=more.pop("config", ONCE),
        aws_access_key_id=credentials.get("AWS_ACCESS_KEY_ID") or credentials["AccessKeyId"],
        aws_secret_access_key=credentials.get("AWS_SECRET_ACCESS_KEY") or credentials["SecretAccessKey"],
        aws_session_token=credentials.get("AWS_SESSION_TOKEN")
        or credentials.get("SessionToken")
        or credentials.get("Token"),
        **more,
    )


def last_json(text: str) -> dict:
    """The last line of a script's output, as JSON."""
    return json.loads(text.strip().splitlines()[-1])
