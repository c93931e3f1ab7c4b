"""Namespaces that a command in a pocket makes for itself: they work, and metadata counts the hop to them."""

from __future__ import annotations

import pytest

from harness import INSTANCE_ID, ROOT, Region
from netlab import need

#: A container in the machine: a network behind a veth pair, in a user namespace of its own. Runs `$1` there.
CONTAINER = """set -eu
unshare --user --map-root-user --net sleep 60 &
child=$!
trap 'kill $child' EXIT
until [ "$(readlink /proc/$child/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
ip link add inner type veth peer name eth0 netns $child
ip address add 10.1.0.1/24 dev inner
ip address add fd02::1/64 dev inner nodad
ip link set inner up
nsenter --target $child --user --net --preserve-credentials sh -euc '
  ip link set lo up
  ip address add 10.1.0.2/24 dev eth0
  ip address add fd02::2/64 dev eth0 nodad
  ip link set eth0 up
  ip route add default via 10.1.0.1
  ip -6 route add default via fd02::1
  '"$1"
"""
#: What the container is told: its way to a token, which it waits for so long, and what it finds with one or without.
ASK = """
  base={endpoint}/latest
  token=$(curl -sgf -m {patience} -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" $base/api/token || echo none)
  if [ "$token" = none ]; then echo "no token"; else
    curl -sgf -m 20 -H "X-aws-ec2-metadata-token: $token" $base/meta-data/instance-id
  fi
  curl -sg -m 20 -o /dev/null -w " %{{http_code}}" $base/meta-data/instance-id"""

needs_root = pytest.mark.skipif(not ROOT, reason="to connect networks takes root")


@needs_root
@pytest.mark.parametrize("endpoint", ["http://169.254.169.254", "http://[fd00:ec2::254]"], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize(("limit", "reached"), [(1, False), (2, True), (64, True)])
def test_a_container_in_a_pocket_is_a_hop_away(region: Region, endpoint: str, limit: int, reached: bool):
    need("nsenter", "util-linux")
    flags = ["--hop-limit", str(limit), "--ipv6", "--http-tokens", "optional"]
    ask = ASK.format(endpoint=endpoint, patience=20 if reached else 3)
    script = [*flags, "--", "sh", "-c", CONTAINER, "sh", ask]
    told = region.cli("run", *script).stdout
    found, without = told.rsplit(" ", 1)
    assert without == "200", "what carries no token is not held back"
    if reached:
        assert INSTANCE_ID.match(found), told
    else:
        assert found == "no token\n"


def test_a_command_may_make_namespaces_of_its_own(region: Region):
    script = 'id -u; ip link show dev lo | head -1; test "$(readlink /proc/self/ns/net)" != "$OUTER"'
    inside = f"""OUTER=$(readlink /proc/self/ns/net); export OUTER
    unshare --user --map-root-user --net --mount --pid --fork sh -euc '{script}'"""
    told = region.cli("run", "--", "sh", "-euc", inside).stdout
    assert told.startswith("0\n1: lo:")
