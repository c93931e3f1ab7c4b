"""Calls to the servers of a fleet over a network that breaks: each is answered, or nobody knows what became of it."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from fleet_lab import REGION
from fleet_oracle import Credential
from metadata import IDENTITY

#: The name at which servers listen to hosts, whatever their address. Source: docs/hosts.md.
HOSTS_NAME = "hosts.inborn.internal"
CONNECT_SECONDS = 3.0
WHOAMI = "Action=GetCallerIdentity&Version=2011-06-15"


class Unanswered(Exception):
    """No answer came. `was_sent` says whether the request may still be done, now or later."""

    def __init__(self, why: Exception, was_sent: bool):
        super().__init__(f"{type(why).__name__}: {why}")
        self.was_sent = was_sent


@dataclass
class Answer:
    #: When the last byte of the question went out, by the monotonic clock.
    sent: float
    status: int
    body: str

    @property
    def code(self) -> str:
        found = re.search(r"<Code>([^<]+)</Code>", self.body)
        return found.group(1) if found else ""

    def all(self, element: str) -> list[str]:
        return re.findall(rf"<{element}>([^<]*)</{element}>", self.body)


def exchange(
    address: tuple[str, int], data: bytes, patience: float, dawdle: float, tls: ssl.SSLContext | None
) -> Answer:
    """Sends a request, its last byte after some time, and reads the answer."""
    was_sent = False
    try:
        with socket.create_connection(address, timeout=CONNECT_SECONDS) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.settimeout(patience)
            stream = plain if tls is None else tls.wrap_socket(plain, server_hostname=HOSTS_NAME)
            with stream:
                stream.sendall(data[:-1])
                time.sleep(dawdle)
                was_sent, sent = True, time.monotonic()
                stream.sendall(data[-1:])
                response = http.client.HTTPResponse(stream)
                response.begin()
                return Answer(sent, response.status, response.read().decode())
    except (OSError, http.client.HTTPException) as why:
        raise Unanswered(why, was_sent) from None


def call(
    address: tuple[str, int], service: str, body: str, keys: Credentials, *, patience: float = 15.0, dawdle: float = 0.0
) -> Answer:
    """A signed call of a query service."""
    content = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    request = AWSRequest("POST", f"http://{service}.{REGION}.amazonaws.com/", data=body.encode(), headers=content)
    SigV4Auth(keys, service, REGION).add_auth(request)
    headers = {"Host": f"{service}.{REGION}.amazonaws.com", **request.headers}
    return exchange(address, message("/", headers, body), patience, dawdle, None)


def message(path: str, headers: dict[str, str], body: str) -> bytes:
    """A request that has a body, of a connection that has one request."""
    headers = {**headers, "Content-Length": str(len(body)), "Connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n{body}".encode()


def host_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What shows a host's certificate. The server's is not looked at: nobody else is on this network."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(certificate, key)
    return context


def credentials_for(
    address: tuple[str, int],
    context: ssl.SSLContext,
    machines: list[str],
    *,
    patience: float = 15.0,
    dawdle: float = 0.0,
) -> Answer:
    """What a host asks for its machines' credentials."""
    headers = {"Host": HOSTS_NAME, "Content-Type": "application/json"}
    body = json.dumps({"instances": machines})
    return exchange(address, message("/host/v1/credentials", headers, body), patience, dawdle, context)


def keys_of(variables: dict[str, str]) -> Credentials:
    return Credentials(variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"])


@dataclass
class Looked:
    """What a guest found in its metadata: who it is, and its credential or why there is none."""

    name: str
    credential: Credential | None
    why: str


def look(endpoint: str, patience: float) -> Looked:
    """Version 2, on one connection."""
    address = endpoint.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=patience)

    def ask(method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    name = ""
    try:
        status, token = ask("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        if status != 200:
            return Looked(name, None, f"no token: {status}")
        headers = {"X-aws-ec2-metadata-token": token}
        status, name = ask("GET", "/latest/meta-data/instance-id", headers)
        if status != 200:
            return Looked("", None, f"no id: {status}")
        status, text = ask("GET", f"/latest/meta-data/{IDENTITY}", headers)
        document = json.loads(text) if status == 200 else {}
        if document.get("Code") != "Success":
            return Looked(name, None, f"no credential: {status} {document.get('Code', '')}")
    except (OSError, http.client.HTTPException) as why:
        return Looked(name, None, f"{type(why).__name__}: {why}")
    finally:
        connection.close()
    expires = datetime.fromisoformat(document["Expiration"].replace("Z", "+00:00")).timestamp()
    key, secret = document["AccessKeyId"], document["SecretAccessKey"]
    return Looked(name, Credential(key, secret, document["Token"], expires, time.monotonic()), "")
