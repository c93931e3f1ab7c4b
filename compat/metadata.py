"""A metadata client made of nothing but the standard library: what a shell script in a guest does."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import TypeVar

IDENTITY = "identity-credentials/ec2/security-credentials/ec2-instance"
Made = TypeVar("Made")
#: Talks to the address itself, whatever proxy the machine has set.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Metadata:
    """Version 2 by default: a token first, then the reads."""

    def __init__(self, endpoint: str, *, version: int = 2):
        self.endpoint = endpoint.rstrip("/")
        self.headers = {"X-aws-ec2-metadata-token": self.token()} if version == 2 else {}

    def token(self, seconds: int = 21600) -> str:
        ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(seconds)}
        status, headers, body = self.request("PUT", "/latest/api/token", ttl)
        assert status == 200, (status, body)
        assert headers["X-aws-ec2-metadata-token-ttl-seconds"] == str(seconds)
        return body.decode()

    def request(self, method: str, path: str, headers: dict[str, str] | None = None, timeout: float = 5):
        """Status, headers and body, whatever the status is."""
        request = urllib.request.Request(self.endpoint + path, method=method, headers=headers or {})
        try:
            with OPENER.open(request, timeout=timeout) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def get(self, path: str) -> str:
        """The text at `/latest/PATH`; anything but 200 is a failure."""
        status, _, body = self.request("GET", f"/latest/{path}", self.headers)
        assert status == 200, (path, status, body)
        return body.decode()

    def identity(self) -> dict[str, str]:
        """The credential document of the identity role."""
        document = json.loads(self.get(f"meta-data/{IDENTITY}"))
        assert document["Code"] == "Success", document["Code"]
        return document


def while_held(endpoint: str, act: Callable[[dict[str, str]], Made]) -> tuple[Made, dict[str, str]]:
    """What `act` makes of the credentials that the machine at an endpoint holds, and those.

    Once an hour, at a second that is each machine's own, others take their place: if that was meanwhile, once more.
    """
    for _ in range(2):
        held = Metadata(endpoint).identity()
        made = act(held)
        if Metadata(endpoint).identity() == held:
            break
    return made, held
