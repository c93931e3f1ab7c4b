"""Raw sockets and hand-made requests: what no well-behaved client would send."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from harness import Region

CALLER_IDENTITY = b"Action=GetCallerIdentity&Version=2011-06-15"
FORM = "application/x-www-form-urlencoded; charset=utf-8"


def connect(port: int, timeout: float = 5) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=timeout)


def signed_headers(region: Region, body: bytes = CALLER_IDENTITY, service: str = "sts") -> list[tuple[str, str]]:
    """The header fields that botocore would send as the operator, in order."""
    operator = region.operator()
    keys = Credentials(operator["AWS_ACCESS_KEY_ID"], operator["AWS_SECRET_ACCESS_KEY"])
    host = region.endpoint.removeprefix("http://")
    request = AWSRequest("POST", region.endpoint + "/", data=body, headers={"Content-Type": FORM, "Host": host})
    SigV4Auth(keys, service, region.name).add_auth(request)
    return [*request.headers.items(), ("Content-Length", str(len(body)))]


def render(headers: list[tuple[str, str]], body: bytes = CALLER_IDENTITY, line: str = "POST / HTTP/1.1") -> bytes:
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"{line}\r\n{head}\r\n".encode("latin-1") + body


def good_request(region: Region) -> bytes:
    """A whole request that is answered with 200."""
    return render(signed_headers(region))


def read_answer(connection: socket.socket) -> tuple[int | None, bytes]:
    """The status and all bytes of the answer; `None` where the connection ended without one.

    Reads a body of the length that the answer announces, so a connection that is kept open does not matter.
    """
    received = b""
    with contextlib.suppress(ConnectionError):
        while b"\r\n\r\n" not in received:
            piece = connection.recv(65536)
            if not piece:
                return None, received
            received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        wanted = int(lengths[0]) if lengths else 0
        while len(body) < wanted and (piece := connection.recv(65536)):
            body += piece
        return int(head.split(b" ", 2)[1]), head + b"\r\n\r\n" + body
    return None, received


def exchange(port: int, request: bytes, timeout: float = 10) -> tuple[int | None, bytes]:
    """Sends bytes and reads one answer. A server that closes while we still send is no error of ours."""
    with connect(port, timeout) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
        return read_answer(connection)


@contextlib.contextmanager
def many(port: int, count: int, first: bytes = b"") -> Iterator[list[socket.socket]]:
    """That many connections, each having sent `first`."""
    connections: list[socket.socket] = []
    try:
        for _ in range(count):
            connection = connect(port, timeout=10)
            connections.append(connection)
            if first:
                connection.sendall(first)
        yield connections
    finally:
        for connection in connections:
            connection.close()
