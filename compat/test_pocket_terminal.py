"""`inborn run -it`: a shell with a terminal of its own, and the caller's terminal as it was, whatever happens."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from harness import Region, binary, run, wait_until
from terminal import Seat, seat

#: A shell that reads no start-up files and shows a prompt that nothing else prints.
SHELL = ("run", "-it", "--", "env", "PS1=at>", "sh", "-i")
#: The shell sends SIGCONT when it has given the terminal to the job.
JOB = """\
import os, signal, time
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCONT})
os.write(1, b"started\\n")
signal.sigwait({signal.SIGCONT})
os.write(1, b"continued\\n")
time.sleep(300)
"""


@pytest.fixture
def shell(region: Region):
    with seat([binary(), *SHELL], {**region.env, "TERM": "dumb"}) as one:
        one.see("at>")
        yield one


def test_the_shell_has_a_terminal_with_job_control(shell: Seat):
    shell.type("tty; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all $((1 + 2))\r")
    assert "/dev/pts/" in shell.see("all 3\r\n")
    shell.type("set -o | grep monitor; ps -o pid= -o tpgid= -o sid= -p $$\r")
    told = shell.see(r"monitor\s+on\s+(\d+)\s+\d+\s+(\d+)\s")
    assert "no job control" not in told
    shell.type("exit 7\r")
    assert shell.end() == 7
    assert shell.is_as_before()


def test_keys_are_for_the_command(shell: Seat, tmp_path: Path):
    job = tmp_path / "job.py"
    job.write_text(JOB)
    assert shell.is_raw(), "the outer terminal passes every key on"
    # The job tells when it is the foreground job, at first and again after `fg`: an earlier key is for the shell.
    # It is one process, because a shell that starts another by vfork(2) cannot be stopped until that one has begun.
    shell.type(f"{sys.executable} {job}\r")
    shell.see("\nstarted\r\n")
    shell.type("\x1a")
    shell.see("(Stopped|Suspended)[^>]*at>")
    shell.type("fg\r")
    shell.see("\ncontinued\r\n")
    shell.type("\x03")
    shell.see("at>")
    shell.type("echo still $((40 + 2))\r")
    shell.see("still 42\r\n")
    shell.type("\x04")
    shell.end()
    assert shell.is_as_before()


def test_the_size_is_the_outer_terminals(shell: Seat):
    shell.type("stty size\r")
    shell.see("33 91\r\n")
    shell.resize(20, 70)

    # The signal travels: kernel, `inborn run`, inner terminal.
    def seen() -> bool:
        shell.type("stty size\r")
        return "20 70" in shell.see(r"\d+ \d+\r\n")

    wait_until(seen, "the inner terminal has the new size")


def test_the_machine_is_there(shell: Seat):
    shell.type("inborn whoami\r")
    assert "assumed-role/aws:ec2-instance/i-" in shell.see("account ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_the_terminal_is_given_back_whatever_ends_it(region: Region, number: signal.Signals):
    with seat([binary(), "run", "-it", "--", "sh", "-c", "echo ready; exec sleep 300"], region.env) as one:
        one.see("ready")
        wait_until(one.is_raw, "the terminal is raw")
        one.signal(number)
        assert one.end() == -number
        wait_until(one.is_as_before, "the terminal is as it was")


def test_a_command_that_cannot_run_leaves_the_terminal_alone(region: Region):
    with seat([binary(), "run", "-it", "--", "no-such-command"], region.env) as one:
        one.see("cannot run no-such-command")
        assert one.end() == 127
        assert one.is_as_before()


def test_the_last_words_are_seen(region: Region):
    with seat([binary(), "run", "-t", "--", "sh", "-c", "seq 20000; echo the-end"], region.env) as one:
        told = one.see("the-end\r\n")
        assert told.count("\r\n") == 20001, "nothing is lost on the way"
        assert one.end() == 0


def test_without_a_terminal_it_says_so(region: Region):
    result = region.cli("run", "-it", "--", "true", check=False)
    assert result.returncode == 125
    assert result.stderr == "inborn: -t needs a terminal, and standard input is none: leave -t away\n"
    assert run([binary(), "run", "-i", "--", "true"], region.env).returncode == 0
