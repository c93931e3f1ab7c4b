"""What the AWS CLI, version 2, does for `ec2-instance-connect open-tunnel`, with other parts: botocore signs the link
as it does there, and `websockets` carries the frames. The CLI itself is not on PyPI, where all here comes from."""

from __future__ import annotations

import socket
from urllib.parse import urlencode, urlsplit

from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from websockets.sync.client import ClientConnection, connect

#: As in the CLI: the longest message, and how long a link is good.
MESSAGE_BYTES_MAX = 65_000
LINK_SECONDS = 60


def link(base: str, region: str, credentials: Credentials, **parameters: object) -> str:
    """The presigned URL of a tunnel below `base`, an http or https URL."""
    request = AWSRequest("GET", f"{base}/openTunnel?{urlencode(parameters)}")
    SigV4QueryAuth(credentials, "ec2-instance-connect", region, expires=LINK_SECONDS).add_auth(request)
    return request.prepare().url


def open_link(url: str, **more) -> ClientConnection:
    """The WebSocket behind a link."""
    parts = urlsplit(url)
    sock = None
    if "ssl" not in more:
        sock = socket.create_connection((parts.hostname, parts.port), timeout=20)
    url = url.replace("http", "ws", 1)
    return connect(url, sock=sock, compression=None, ping_interval=None, max_size=None, proxy=None, **more)
