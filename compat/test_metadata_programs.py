"""Programs that are written for EC2 machines, as Debian packages them: `ec2-metadata` and cloud-init, in a pocket."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import INSIDE, INSTANCE_ID, ROOT, Region, last_json, run
from netlab import need

KEY_NAME = "deploy"
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG9wZW5zc2gtZm9yLXRoZS10ZXN0cy1vZi1pbmJvcm4h deploy"
#: What the machine is told to do when it starts.
USER_DATA = '#!/bin/sh\necho "born as $INSTANCE_ID" > "$BORN"\n'
#: As on EC2, the firmware tells the platform; cloud-init asks it before it takes a session token. `/sys/class` is made
#: again with the rest of it as it was.
FIRMWARE = """set -eu
mkdir "$PLACE/class"
mount --rbind /sys/class "$PLACE/class"
mount -t tmpfs none /sys/class
for one in "$PLACE"/class/*; do ln -s "$one" /sys/class/; done
rm -f /sys/class/dmi
mkdir -p /sys/class/dmi/id
for one in product_uuid product_serial; do echo ec2e1916-9099-7caf-fd21-012345abcdef > /sys/class/dmi/id/$one; done
mount -t tmpfs none /etc/cloud
cp "$PLACE/cloud.cfg" /etc/cloud/cloud.cfg
exec "$@"
"""
#: Nothing of this computer is changed: no network, no keys, no host name. What is left is what is tested.
CLOUD_CONFIG = """datasource_list: [Ec2]
datasource: {Ec2: {strict_id: true, max_wait: 20, timeout: 10}}
network: {config: disabled}
disable_root: false
cloud_init_modules: []
cloud_config_modules: []
cloud_final_modules: [scripts-user]
system_info: {paths: {cloud_dir: PLACE/cloud, run_dir: PLACE/run}}
preserve_hostname: true
def_log_file: PLACE/log
output: {all: '>> PLACE/output'}
syslog_fix_perms: root:root
"""


@pytest.fixture(scope="module")
def keyed(region: Region) -> Iterator[Region]:
    """A region with a key pair."""
    region.client("ec2").import_key_pair(KeyName=KEY_NAME, PublicKeyMaterial=PUBLIC_KEY.encode())
    yield region


@pytest.fixture
def flags(place: Path) -> list[str]:
    (place / "user-data").write_text(USER_DATA)
    shown = ["--name", "web-1", "--tag", "role=web", "--metadata-tags"]
    return [*shown, "--user-data", str(place / "user-data"), "--key-name", KEY_NAME]


def test_ec2_metadata_finds_everything_it_asks_for(keyed: Region, flags: list[str]):
    need("ec2-metadata", "amazon-ec2-utils")
    told = keyed.cli("run", *flags, "--", "ec2-metadata").stdout
    values = dict(re.findall(r"^([a-z0-9-]+): (.+)$", told, re.M))
    assert INSTANCE_ID.match(values["instance-id"])
    assert (values["instance-type"], values["placement"]) == ("m5.large", "us-east-1a")
    assert values["local-hostname"].endswith(".ec2.internal")
    assert values["security-groups"] == "default"
    assert "keyname:deploy\nindex:0\nformat:openssh-key" in told
    assert PUBLIC_KEY.rsplit(" ", 1)[0] in told
    assert "\t role: web" in told
    assert "born as" in told
    # What a machine of Amazon's Linux and Nitro has not either.
    missing = {name for name, value in values.items() if value == "not available"}
    assert missing <= {"ancestor-ami-ids", "kernel-id", "product-codes", "public-hostname", "public-ipv4", "ramdisk-id"}


def test_cloud_init_starts_a_machine(keyed: Region, flags: list[str], place: Path):
    need("cloud-init", "cloud-init")
    if not ROOT:
        pytest.skip("cloud-init runs as root")
    (place / "cloud.cfg").write_text(CLOUD_CONFIG.replace("PLACE", str(place)))
    script = """set -eu
    cloud-init init 1>&2
    cloud-init modules --mode final 1>&2
    cloud-init query --all"""
    # In a container cloud-init does not look at the firmware, and tests may run in one.
    (place / "bin").mkdir()
    (place / "bin/systemd-detect-virt").write_text("#!/bin/sh\nexit 1\n")
    (place / "bin/systemd-detect-virt").chmod(0o755)
    env = {**keyed.env, "PLACE": str(place), "BORN": str(place / "born")}
    env["PATH"] = f"{place}/bin:{env['PATH']}"
    words = ["unshare", "--mount", "sh", "-c", FIRMWARE, "sh", "inborn", "run", *flags, "--", "sh", "-c", script]
    done = run(words, env, timeout=180)
    output = (place / "output").read_text() if (place / "output").exists() else ""
    assert done.returncode == 0, f"{done.stderr}\n{output}"
    told = json.loads(done.stdout)

    v1 = told["v1"]
    assert (v1["cloud_name"], v1["platform"], v1["region"]) == ("aws", "ec2", "us-east-1")
    assert v1["availability_zone"] == "us-east-1a"
    assert INSTANCE_ID.match(v1["instance_id"])
    assert v1["local_hostname"].startswith("ip-")
    assert [key.rsplit(" ", 1)[0] for key in v1["public_ssh_keys"]] == [PUBLIC_KEY.rsplit(" ", 1)[0]]
    assert told["userdata"] == USER_DATA
    assert (place / "born").read_text() == f"born as {v1['instance_id']}\n", "the user data was run"
    crawled = told["ds"]["meta-data"]
    assert crawled["instance-id"] == v1["instance_id"]
    assert crawled["tags"]["instance"]["role"] == "web"
    assert crawled["network"]["interfaces"]["macs"]
    assert told["ds"]["dynamic"]["instance-identity"]["document"]["instanceId"] == v1["instance_id"]
    # Every leaf that a listing names was there.
    assert "/meta-data/placement/region" in output, "the log of the crawl"
    assert not re.findall(r"^.*(?:url_helper|ec2|Ec2)\.py\[(?:WARNING|ERROR)\].*$", output, re.M)
    assert not re.findall(r"^.*Read from \S+ \([45].*$", output, re.M)


#: What SDKs are told where a network has no IPv4. A pocket takes it away from outside, so it is set inside.
IPV6_MODE = ("env", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=IPv6")


def test_botocore_reads_over_ipv6(region: Region):
    told = last_json(region.cli("run", "--ipv6", "--", *IPV6_MODE, sys.executable, str(INSIDE / "ipv6.py")).stdout)
    assert told == {"region": "us-east-1", "endpoint": "http://[fd00:ec2::254]/"}


def test_inborn_itself_reads_over_ipv6(region: Region):
    told = region.cli("run", "--ipv6", "--", *IPV6_MODE, "inborn", "whoami").stdout
    assert "assumed-role/aws:ec2-instance/i-" in told
    refused = region.cli("run", "--", *IPV6_MODE, "inborn", "whoami", check=False)
    assert refused.returncode == 1, "the IPv6 endpoint is off where nobody asked for it"
