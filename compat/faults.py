"""A proxy between a client and a region that lets some requests fail, as networks and load balancers do."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

#: `refuse`: answered with 503, and the region never sees it. `lose`: done by the region, and the answer is lost.
Fault = Literal["refuse", "lose"]


@dataclass
class Proxy:
    """Forwards bytes as they are, `Host` included, since the signature covers it."""

    port: int
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    #: The targets that were asked for, in order, with the fault that met them.
    seen: list[tuple[str, Fault | None]] = field(default_factory=list)
    address: str = ""

    def fail(self, target: str, *faults: Fault) -> None:
        """What becomes of the next requests for this `X-Amz-Target`."""
        self.faults.setdefault(target, []).extend(faults)


@contextmanager
def between(port: int) -> Iterator[Proxy]:
    """A proxy before the plain port of a region."""
    proxy = Proxy(port)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            target = self.headers.get("X-Amz-Target", "")
            faults = proxy.faults.get(target)
            fault = faults.pop(0) if faults else None
            proxy.seen.append((target, fault))
            if fault == "refuse":
                self.answer(503, [("Content-Type", "text/plain")], b"no server is available")
                return
            try:
                status, headers, answer = forward(proxy.port, self.headers.items(), body)
            except (OSError, http.client.HTTPException):
                # The region has ended, as this connection does now.
                fault = "lose"
            if fault == "lose":
                self.close_connection = True
                self.connection.close()
                return
            self.answer(status, headers, answer)

        def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in {"content-length", "connection", "transfer-encoding"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def forward(port: int, headers, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
    """The same request to the region: every header in its order and spelling."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=40)
    try:
        connection.putrequest("POST", "/", skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()
    finally:
        connection.close()
