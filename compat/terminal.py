"""A terminal that tests sit at: a pseudoterminal, and what is seen on it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

#: Colours and cursor movements that shells print between words.
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
#: The request for a terminal's number; `os.ptsname` came with Python 3.13.
TIOCGPTN = 0x80045430


class Seat:
    """One process in a session of its own on a terminal of its own, as a login shell's foreground job is."""

    def __init__(self, argv: Sequence[str | Path], env: dict[str, str], rows: int = 33, columns: int = 91):
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            try:
                os.execve(str(argv[0]), [str(word) for word in argv], env)
            finally:
                os._exit(70)
        self.seen = ""
        self.status: int | None = None
        #: A second way to the same terminal, so that it is there after the process has gone.
        number = struct.unpack("I", fcntl.ioctl(self.master, TIOCGPTN, struct.pack("I", 0)))[0]
        self.keeper = os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY)
        self.before = termios.tcgetattr(self.keeper)
        self.resize(rows, columns)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def see(self, expected: str, seconds: float = 30) -> str:
        """Waits until `expected` (a pattern) is on the screen; returns and forgets what came up to its end."""
        deadline = time.monotonic() + seconds
        while True:
            found = re.search(expected, self.seen)
            if found:
                told, self.seen = self.seen[: found.end()], self.seen[found.end() :]
                return told
            if time.monotonic() > deadline:
                raise AssertionError(f"{expected!r} was never seen: {self.seen!r}")
            self.look(0.1)

    def look(self, seconds: float) -> None:
        """Takes what is on the screen, or comes within `seconds`, into `seen`."""
        if select.select([self.master], [], [], seconds)[0]:
            try:
                self.seen += ESCAPES.sub("", os.read(self.master, 65536).decode(errors="replace"))
            except OSError:
                time.sleep(0.05)

    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.keeper)[3] & termios.ICANON

    def is_as_before(self) -> bool:
        return termios.tcgetattr(self.keeper) == self.before

    def end(self, seconds: float = 30) -> int:
        """Waits for the process; its exit code, or minus the number of its signal."""
        deadline = time.monotonic() + seconds
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                raise AssertionError(f"it still runs: {self.seen!r}")
            else:
                self.look(0.02)
        return self.status

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def leave(self) -> None:
        if self.status is None:
            self.signal(signal.SIGKILL)
            self.end()
        os.close(self.keeper)
        os.close(self.master)


@contextlib.contextmanager
def seat(argv: Sequence[str | Path], env: dict[str, str], **more) -> Iterator[Seat]:
    """A process at a terminal, ended at the end."""
    one = Seat(argv, env, **more)
    try:
        yield one
    finally:
        one.leave()
