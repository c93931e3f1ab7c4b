"""Inside a pocket: more events than fit in memory, to a region that is away. Prints what the sensor took.

Arguments: the directory for the spool, how many events.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

spool, count = sys.argv[1], int(sys.argv[2])
os.environ["AWS_ENDPOINT_URL_GUARDDUTY_DATA"] = "http://127.0.0.1:1"
argv = ["inborn", "sensor", "--from", "laurel", "--spool", spool, "--spool-size", "4"]
sensor = subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
for number in range(count):
    arguments = ["x", os.urandom(1000).hex(), os.urandom(1000).hex()]
    event = {"ID": f"1764192000.123:{number}", "EXECVE": {"argc": 3, "ARGV": arguments}}
    event["SYSCALL"] = {
        "SYSCALL": "execve",
        "success": "yes",
        "pid": 4000000,
        "ppid": 1,
        "uid": 0,
        "euid": 0,
        "exe": "/bin/x",
    }
    sensor.stdin.write(json.dumps(event) + "\n")
sensor.stdin.flush()
time.sleep(1)
status = Path(f"/proc/{sensor.pid}/status").read_text()
spooled = sum(file.stat().st_size for file in Path(spool).rglob("*.gz"))
sensor.stdin.close()
errors = sensor.stderr.read()
result = {
    "peak_kib": int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.M).group(1)),
    "spooled": spooled,
    "status": sensor.wait(60),
    "errors": errors,
}
print(json.dumps(result))
