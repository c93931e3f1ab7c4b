"""Run inside a pocket, or beside a machine on a loopback port: asks the metadata service from so many hops away.

Each line of standard input is `HOST PORT METHOD HOPS`: a client that takes no packet which is not yet good for HOPS
hops, counted as its network would count them. IP_MINTTL (RFC 5082) is set when the connection is there, so what it
judges is the answer alone. Each line of output is the status of the answer, `refused`, `closed` or `nothing`.
"""

import socket
import sys

IP_MINTTL = 21  # not in Python's socket module
IPV6_MINHOPCOUNT = 73
HOST = "Host: 169.254.169.254\r\n"
REQUESTS = {
    "GET": f"GET /latest/meta-data/instance-id HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n",
    "PUT": f"PUT /latest/api/token HTTP/1.1\r\n{HOST}X-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n",
}


def ask(host: str, port: int, method: str, hops: int) -> str:
    try:
        connection = socket.create_connection((host, port), timeout=5)
    except OSError:
        return "refused"
    with connection:
        if ":" in host:
            connection.setsockopt(socket.IPPROTO_IPV6, IPV6_MINHOPCOUNT, hops)
        else:
            connection.setsockopt(socket.IPPROTO_IP, IP_MINTTL, hops)
        connection.settimeout(1)
        try:
            connection.sendall(REQUESTS[method].encode())
            answer = connection.recv(4096).decode()
        except TimeoutError:
            return "nothing"
        except ConnectionError:
            return "refused"
        return answer.split(" ")[1] if answer else "closed"


if __name__ == "__main__":
    for line in sys.stdin:
        host, port, method, hops = line.split()
        print(ask(host, int(port), method, int(hops)), flush=True)
