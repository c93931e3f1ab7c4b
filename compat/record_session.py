"""Writes down what AWS's session-manager-plugin and the agent's double say to each other through a region: the frames
that `crates/region/tests/recorded.rs` plays again. Run it by hand, where the plugin is built:
`python record_session.py DIRECTORY`.

A line is who sent a frame, `client` or `agent`, and the frame in hex. The first text of a data channel, which holds a
token, is not among them.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from clients import SESSION_MANAGER_PLUGIN
from double import Lab, Machine, pass_role
from harness import Region, clean_env, run, scratch, wait_until
from terminal import seat

#: What the agent sends to the client at the end is the region's.
END = b"channel_closed"


class Tape:
    """A data channel's client side with somebody in the middle, who writes down what goes by."""

    def __init__(self, region: Region):
        self.region = region
        self.lines: list[str] = []

    def relay(self, client: ServerConnection) -> None:
        upstream = urlsplit(self.region.endpoint)
        with connect(
            f"ws://{upstream.netloc}{client.request.path}", compression=None, max_size=None, proxy=None
        ) as region:
            back = threading.Thread(target=self.carry, args=("agent", region, client))
            back.start()
            self.carry("client", client, region)
            back.join()

    def carry(self, who: str, source, sink) -> None:
        with contextlib.suppress(ConnectionClosed):
            for message in source:
                if isinstance(message, bytes) and not message[4:].startswith(END):
                    self.lines.append(f"{who} {message.hex()}")
                sink.send(message)
        sink.close()

    @contextlib.contextmanager
    def session(self, machine: Machine, place: Path, **parameters) -> Iterator[tuple[list[str], dict[str, str]]]:
        """The words that start the plugin, and its environment."""
        started = self.region.client("ssm").start_session(Target=machine.id, **parameters)
        with serve(self.relay, "127.0.0.1", 0, compression=None, max_size=None) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            own = "{}:{}".format(*server.socket.getsockname())
            started["StreamUrl"] = started["StreamUrl"].replace("wss://", "ws://")
            asked = urlsplit(started["StreamUrl"])
            started["StreamUrl"] = started["StreamUrl"].replace(asked.netloc, own)
            told = {name: started[name] for name in ("SessionId", "TokenValue", "StreamUrl")}
            argv = [SESSION_MANAGER_PLUGIN.built, json.dumps(told), self.region.name, "StartSession", ""]
            argv.append(json.dumps({"Target": machine.id}))
            argv.append(self.region.endpoint)
            yield [str(word) for word in argv], clean_env(place, **self.region.operator(), TERM="dumb")
            server.shutdown()


def a_command(tape: Tape, machine: Machine, place: Path) -> None:
    """`AWS-StartInteractiveCommand`: terminal sizes, output, the end."""
    parameters = {"command": ["echo at-$((6*7)); read line; echo and-$line"]}
    with (
        tape.session(machine, place, DocumentName="AWS-StartInteractiveCommand", Parameters=parameters) as (argv, env),
        seat(argv, env) as terminal,
    ):
        terminal.see(r"at-42\r+\n", 60)
        terminal.type("seven\r")
        terminal.see(r"and-seven\r+\n")
        terminal.see("Exiting session with sessionId: ")
        terminal.end()


def a_port(tape: Tape, machine: Machine, place: Path) -> None:
    """`AWS-StartPortForwardingSession`: the handshake, and bytes both ways."""
    with socket.create_server(("127.0.0.1", 0)) as far:

        def answer() -> None:
            connection, _ = far.accept()
            with connection:
                connection.sendall(connection.recv(4096).upper())

        threading.Thread(target=answer, daemon=True).start()
        parameters = {"portNumber": [str(far.getsockname()[1])], "localPortNumber": ["0"]}
        with tape.session(machine, place, DocumentName="AWS-StartPortForwardingSession", Parameters=parameters) as (
            argv,
            env,
        ):
            plugin = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
            said = ""
            while "opened for sessionId" not in said:
                line = plugin.stdout.readline()
                assert line, f"the plugin has ended: {said}"
                said += line
            port = int(said.split("Port ", 1)[1].split(" ", 1)[0])
            with socket.create_connection(("127.0.0.1", port)) as near:
                near.sendall(b"a word to the far end")
                assert near.recv(4096) == b"A WORD TO THE FAR END"
            plugin.terminate()
            plugin.wait(20)


def main(directory: Path) -> None:
    with scratch() as place:
        (place / "home").mkdir()
        region, lab = Region(place / "data", place / "home").start(), Lab(place)
        try:
            pass_role(region)
            machine = lab.machine(region)
            lab.start(machine).wait("channel")
            version = run([SESSION_MANAGER_PLUGIN.built, "--version"], clean_env(place)).stdout.strip()
            for name, play in (("command", a_command), ("port", a_port)):
                tape = Tape(region)
                play(tape, machine, place)
                wait_until(lambda tape=tape: tape.lines, "something was said")
                text = f"# session-manager-plugin {version}: {play.__doc__}\n" + "\n".join(tape.lines) + "\n"
                (directory / f"{name}.frames").write_text(text)
        finally:
            lab.end()
            region.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
