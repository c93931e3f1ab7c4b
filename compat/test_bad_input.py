"""Bad input over raw sockets: an exact error or a closed connection, bounded memory, and the next client is served."""

from __future__ import annotations

import contextlib
import resource
import socket
import time

import pytest

from harness import Region, at_best_within, read_exports
from raw import CALLER_IDENTITY, FORM, connect, exchange, good_request, many, read_answer, render, signed_headers

#: How much more memory a flood may leave in use. Idle connections are bounded in number, each in bytes.
FLOOD_KIB = 96 * 1024
#: The head timeout is 20 s; a busy machine is a little late.
HEAD_SECONDS = 30.0


@pytest.fixture(autouse=True)
def still_well(region: Region):
    """After each test: the process lives, has not panicked, and serves a good request."""
    yield
    assert region.alive(), region.output()
    assert exchange(region.port, good_request(region))[0] == 200
    assert "panicked" not in region.output()


def replaced(headers: list[tuple[str, str]], name: str, *values: str) -> list[tuple[str, str]]:
    """The fields with every `name` replaced by fields of these values: none, one or several."""
    others = [field for field in headers if field[0].lower() != name.lower()]
    return [*others, *((name, value) for value in values)]


def value_of(headers: list[tuple[str, str]], name: str) -> str:
    return next(value for found, value in headers if found.lower() == name.lower())


GARBAGE = {
    "nothing but a newline": b"\r\n\r\n",
    "binary": bytes(range(256)) * 16,
    "a TLS hello": bytes.fromhex("16030100c4010000c00303") + b"\0" * 190,
    "no version": b"GET /\r\n\r\n",
    "a version of the future": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "http/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a field without a colon": b"GET / HTTP/1.1\r\nHost: x\r\nbroken\r\n\r\n",
    "a field name with a space": b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    "a folded field": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
    "a NUL in a value": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a negative length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "an endless length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    "length and chunks": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bad chunk": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a method that is none": b"G\x01T / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path of 64 KiB": b"GET /" + b"a" * 65536 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a field of 64 KiB": b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 65536 + b"\r\n\r\n",
    "1,000 fields": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"a%d: b\r\n" % n for n in range(1000)) + b"\r\n",
    "a bad escape": b"GET /%zz?Action=%f HTTP/1.1\r\nHost: x\r\n\r\n",
    "above the root": b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_gets_an_error_or_a_closed_door(region: Region, request_bytes: bytes):
    with connect(region.port) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(request_bytes)
            connection.shutdown(socket.SHUT_WR)
        status, answer = read_answer(connection)
    assert status is None or 300 <= status < 500, answer[:200]


@pytest.mark.parametrize("request_bytes", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_at_the_metadata_port(region: Region, request_bytes: bytes):
    machine = read_exports(region.cli("launch", "--export").stdout)
    port = int(machine["AWS_EC2_METADATA_SERVICE_ENDPOINT"].rstrip("/").rsplit(":", 1)[1])
    with connect(port) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(request_bytes)
            connection.shutdown(socket.SHUT_WR)
        status, answer = read_answer(connection)
    assert status is None or 400 <= status < 500 or (status == 200 and b"latest" in answer), answer[:200]
    region.cli("terminate", machine["INSTANCE_ID"])


@pytest.mark.parametrize("name", ["Authorization", "X-Amz-Date", "Host"])
def test_a_duplicated_field_is_refused(region: Region, name: str):
    headers = signed_headers(region)
    value = value_of(headers, name)
    status, answer = exchange(region.port, render(replaced(headers, name, value, value)))
    assert status is None or 400 <= status < 500, answer


@pytest.mark.parametrize(
    ("name", "code"),
    [("Authorization", b"MissingAuthenticationToken"), ("X-Amz-Date", b"IncompleteSignature"), ("Host", None)],
)
def test_an_absent_field_is_refused(region: Region, name: str, code: bytes | None):
    status, answer = exchange(region.port, render(replaced(signed_headers(region), name)))
    assert status is not None
    assert 400 <= status < 500
    assert code is None or code in answer


def test_a_wrong_host_is_no_longer_what_was_signed(region: Region):
    changed = replaced(signed_headers(region), "Host", "sts.example.com")
    status, answer = exchange(region.port, render(changed))
    assert (status, b"SignatureDoesNotMatch" in answer) == (403, True), answer


def test_a_changed_body_is_refused(region: Region):
    status, answer = exchange(region.port, render(signed_headers(region), CALLER_IDENTITY[:-1] + b"6"))
    assert (status, b"SignatureDoesNotMatch" in answer) == (403, True), answer


def test_a_query_with_half_an_authentication_is_refused(region: Region):
    query = "/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=" + "0" * 64
    plain = [("Host", region.endpoint.removeprefix("http://"))]
    status, answer = exchange(region.port, render(plain, b"", f"GET {query} HTTP/1.1"))
    assert status is not None
    assert 400 <= status < 500, answer
    both = render(signed_headers(region), line=f"POST {query} HTTP/1.1")
    status, answer = exchange(region.port, both)
    assert (status, b"SignatureDoesNotMatch" in answer) == (403, True), answer


def test_an_unsigned_unknown_action_is_an_error_of_sts(region: Region):
    body = b"Action=NoSuchThing&Version=2011-06-15"
    status, answer = exchange(region.port, render(signed_headers(region, body), body))
    assert (status, b"InvalidAction" in answer) == (400, True), answer


@pytest.mark.parametrize("size", [1 << 20, 64 << 20])
def test_a_body_over_the_cap_is_not_read(region: Region, size: int):
    before = region.resident_kib()
    headers = [("Host", region.endpoint.removeprefix("http://")), ("Content-Type", FORM), ("Content-Length", str(size))]
    with connect(region.port) as connection:
        connection.sendall(render(headers, b""))
        sent = 0
        with contextlib.suppress(ConnectionError, TimeoutError):
            while sent < size:
                sent += connection.send(b"a" * 65536)
        status, answer = read_answer(connection)
    assert status is None or 400 <= status < 500, answer[:200]
    assert region.resident_kib() - before < 16 * 1024


def test_an_endless_chunked_body_is_cut_off(region: Region):
    headers = [("Host", "x"), ("Content-Type", FORM), ("Transfer-Encoding", "chunked")]
    with connect(region.port) as connection:
        connection.sendall(render(headers, b""))
        chunk = b"10000\r\n" + b"a" * 65536 + b"\r\n"
        sent = 0
        with contextlib.suppress(ConnectionError, TimeoutError):
            while sent < 64 << 20:
                connection.sendall(chunk)
                sent += len(chunk)
        assert sent < 64 << 20, "the server took 64 MiB of an unauthenticated body"


def test_a_slow_head_is_cut_off(region: Region):
    with connect(region.port, timeout=HEAD_SECONDS) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n")
        started = time.monotonic()
        status, answer = read_answer(connection)
        assert status in (None, 408), answer
        assert time.monotonic() - started < HEAD_SECONDS


def test_a_drip_of_bytes_is_cut_off_too(region: Region):
    started = time.monotonic()
    with connect(region.port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nA: ")
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - started < HEAD_SECONDS + 5:
                connection.sendall(b"a")
                time.sleep(0.25)
    assert time.monotonic() - started < HEAD_SECONDS


def test_a_slow_body_is_cut_off(region: Region):
    headers = signed_headers(region)
    with connect(region.port, timeout=60) as connection:
        connection.sendall(render(headers, CALLER_IDENTITY[:10]))
        status, answer = read_answer(connection)
    assert status is None or 400 <= status < 500, answer


def test_a_half_closed_socket_still_gets_its_answer(region: Region):
    with connect(region.port) as connection:
        connection.sendall(good_request(region))
        connection.shutdown(socket.SHUT_WR)
        status, answer = read_answer(connection)
    assert status in (200, None), answer


def test_clients_that_leave_in_the_middle(region: Region):
    request = good_request(region)
    for cut in range(0, len(request), 17):
        with connect(region.port) as connection:
            connection.sendall(request[:cut])


def test_pipelined_requests_are_answered_in_order(region: Region):
    with connect(region.port) as connection:
        connection.sendall(good_request(region) * 3)
        received = b""
        with contextlib.suppress(ConnectionError, TimeoutError):
            while received.count(b"</GetCallerIdentityResponse>") < 3 and (piece := connection.recv(65536)):
                received += piece
    assert received.count(b"HTTP/1.1 200") == 3


def answered_after(region: Region) -> float:
    """How many seconds a good request takes."""
    started = time.monotonic()
    assert exchange(region.port, good_request(region))[0] == 200
    return time.monotonic() - started


@pytest.mark.parametrize("first", [b"", b"POST / HTTP/1.1\r\nHost: x\r\n"], ids=["silent", "half a head"])
def test_two_thousand_idle_connections(region: Region, first: bytes):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2_000
    if hard != resource.RLIM_INFINITY and hard < wanted + 200:
        pytest.fail(f"this needs {wanted + 200} open files; the hard limit here is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted + 200), hard))
    try:
        before = region.resident_kib()
        with many(region.port, wanted, first):
            at_best_within(5, lambda _: answered_after(region))
            assert region.resident_kib() - before < FLOOD_KIB
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
