"""Signed instance identity documents, verified as AWS documents it: by `openssl` and a published certificate."""

from __future__ import annotations

import base64
import json
import sqlite3
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import HERE, Region, binary, clean_env, read_exports, run, scratch, wait_until
from metadata import Metadata

SIGNED = "dynamic/instance-identity"


@pytest.fixture(scope="module")
def region(region: Region) -> Region:
    """With its signers: a new region makes them beside all else, and `ca show` waits for that."""
    region.cli("ca", "show", "identity")
    return region


@pytest.fixture
def metadata(region: Region) -> Iterator[Metadata]:
    """Of a machine just launched."""
    exports = read_exports(region.cli("launch", "--export").stdout)
    yield Metadata(exports["AWS_EC2_METADATA_SERVICE_ENDPOINT"])
    region.cli("terminate", exports["INSTANCE_ID"], check=False)


def openssl(place: Path, words: str, check: bool = True):
    return run(["openssl", *words.split()], clean_env(place), check=check, cwd=place)


def armoured(body: str) -> str:
    return f"-----BEGIN PKCS7-----\n{body}\n-----END PKCS7-----\n"


def write(place: Path, **texts: str) -> None:
    for name, text in texts.items():
        (place / name).write_bytes(text.encode())


def test_the_documented_commands_verify_each_form(region: Region, metadata: Metadata, place: Path):
    document, signature = metadata.get(f"{SIGNED}/document"), metadata.get(f"{SIGNED}/signature")
    write(place, document=document, certificate=region.cli("ca", "show", "identity").stdout)
    (place / "signature").write_bytes(base64.b64decode(signature))
    assert [len(line) for line in signature.split("\n")] == [76, 76, 76, 76, 40], "no line feed at the end"
    openssl(place, "x509 -pubkey -noout -in certificate -out key")
    openssl(place, "dgst -sha256 -verify key -signature signature document")
    for form in ["pkcs7", "rsa2048"]:
        write(place, **{form: armoured(metadata.get(f"{SIGNED}/{form}"))})
        openssl(place, f"smime -verify -in {form} -inform PEM -certfile certificate -noverify -out inside")
        assert (place / "inside").read_bytes() == document.encode(), "byte for byte"


def test_what_was_changed_or_signed_by_another_region_is_refused(
    region: Region, metadata: Metadata, make_region, place: Path
):
    document, pkcs7 = metadata.get(f"{SIGNED}/document"), metadata.get(f"{SIGNED}/rsa2048")
    other = make_region("another").start()
    write(place, document=document.replace(region.account, "999999999999"), pkcs7=armoured(pkcs7))
    write(place, certificate=region.cli("ca", "show", "identity").stdout)
    write(place, foreign=other.cli("ca", "show", "identity").stdout)
    (place / "signature").write_bytes(base64.b64decode(metadata.get(f"{SIGNED}/signature")))
    openssl(place, "x509 -pubkey -noout -in certificate -out key")
    forged = openssl(place, "dgst -sha256 -verify key -signature signature document", check=False)
    assert forged.returncode != 0 and "Verification failure" in forged.stdout + forged.stderr
    foreign = openssl(place, "smime -verify -in pkcs7 -inform PEM -certfile foreign -noverify", check=False)
    assert foreign.returncode != 0 and "signer certificate not found" in foreign.stderr


def test_listed_and_of_the_machine_that_asks(metadata: Metadata):
    assert metadata.get(f"{SIGNED}/").split("\n") == ["document", "pkcs7", "rsa2048", "signature"]
    status, _, _ = metadata.request("GET", f"/latest/{SIGNED}/dsa2048", metadata.headers)
    assert status == 404, "DSA is not there"
    body = base64.b64decode(metadata.get(f"{SIGNED}/pkcs7"))
    assert json.loads(metadata.get(f"{SIGNED}/document"))["instanceId"].encode() in body


def test_a_start_brings_a_new_document_and_its_signature(region: Region, place: Path):
    exports = read_exports(region.cli("launch", "--export").stdout)
    instance, endpoint = exports["INSTANCE_ID"], exports["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
    before = Metadata(endpoint).get(f"{SIGNED}/signature")
    region.client("ec2").create_tags(Resources=[instance], Tags=[{"Key": "a", "Value": "b"}])
    assert Metadata(endpoint).get(f"{SIGNED}/signature") == before, "a tag changes no document"
    region.cli("stop", instance)
    region.cli("start", instance)
    metadata = Metadata(endpoint)
    document = metadata.get(f"{SIGNED}/document")
    write(place, document=document, certificate=region.cli("ca", "show", "identity").stdout)
    write(place, pkcs7=armoured(metadata.get(f"{SIGNED}/pkcs7")))
    openssl(place, "smime -verify -in pkcs7 -inform PEM -certfile certificate -noverify -out inside")
    assert (place / "inside").read_bytes() == document.encode()
    region.cli("terminate", instance)


def test_the_first_program_of_a_machine_finds_its_signature():
    """Nothing has been signed before, and the region's key is being made: the request waits for it."""
    script = """set -eu
    token=$(curl -fsS -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token)
    curl -fsS --retry 5 -H "X-aws-ec2-metadata-token: $token" \
      http://169.254.169.254/latest/dynamic/instance-identity/signature | tr -d '\\n' | wc -c"""
    with scratch() as home:
        ran = run([binary(), "run", "--", "sh", "-c", script], clean_env(home), check=True)
    assert ran.stdout.strip() == "344"


def test_certificates_are_published_and_survive_a_restart(make_region, place: Path):
    region = make_region().start()
    listed = json.loads(region.cli("ca", "--output", "json").stdout)
    assert [entry["certificate"] for entry in listed] == ["tls", "identity", "instance-connect"]
    shown = {entry["certificate"]: region.cli("ca", "show", entry["certificate"]).stdout for entry in listed}
    for entry in listed:
        file = Path(entry["file"])
        assert file.read_text() == shown[entry["certificate"]]
        with urllib.request.urlopen(f"{region.ready['operations']}/{file.name}", timeout=5) as answer:
            assert answer.read().decode() == shown[entry["certificate"]]
        write(place, certificate=shown[entry["certificate"]])
        told = openssl(place, "x509 -in certificate -noout -fingerprint -sha256").stdout
        assert told.strip().split("=")[1] == entry["sha256_fingerprint"]
    region.stop()
    for name, pem in shown.items():
        assert region.cli("ca", "show", name).stdout == pem, "also where no `up` is running"
    region.start()
    assert {name: region.cli("ca", "show", name).stdout for name in shown} == shown
    region.stop()
    for entry in listed:
        Path(entry["file"]).unlink()
    nothing = region.cli("ca", check=False)
    assert nothing.returncode == 1 and "there are no certificates in" in nothing.stderr


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("tls", "authority amazonaws.com"),
        ("identity", "document-signer"),
        ("instance-connect", "instance-connect amazonaws.com"),
    ],
)
def test_a_certificate_is_replaced_as_it_is_documented(make_region, place: Path, name: str, setting: str):
    """The steps of docs/certificates.md."""
    steps = (HERE.parent / "docs/certificates.md").read_text()
    assert f"`{setting.replace('amazonaws.com', 'DOMAIN')}`" in steps and "DELETE FROM settings WHERE name = " in steps
    region = make_region().start()
    exports = read_exports(region.cli("launch", "--export").stdout)
    metadata = Metadata(exports["AWS_EC2_METADATA_SERVICE_ENDPOINT"])
    keys = metadata.identity()
    everything = ["tls", "identity", "instance-connect"]
    before = {each: region.cli("ca", "show", each).stdout for each in everything}
    region.stop()
    with sqlite3.connect(region.data / "inborn.db") as database:
        assert database.execute("DELETE FROM settings WHERE name = ?", [setting]).rowcount == 1
    database.close()
    region.start()

    def shown() -> dict[str, str]:
        return {each: region.cli("ca", "show", each).stdout for each in everything}

    wait_until(lambda: shown()[name] != before[name], f"there is another certificate {name}")
    after = shown()
    assert [each for each in everything if after[each] != before[each]] == [name]
    assert region.client("sts", keys).get_caller_identity()["Account"] == region.account, "credentials stay"
    verified = {}
    metadata = Metadata(exports["AWS_EC2_METADATA_SERVICE_ENDPOINT"])
    write(place, pkcs7=armoured(metadata.get(f"{SIGNED}/pkcs7")), new=after["identity"], old=before["identity"])
    for each in ["new", "old"]:
        tried = openssl(place, f"smime -verify -in pkcs7 -inform PEM -certfile {each} -noverify", check=False)
        verified[each] = tried.returncode == 0
    assert verified == {"new": True, "old": name != "identity"}
    write(place, before=before["tls"], after=after["tls"])
    server = region.ready["tls_endpoint"].removeprefix("https://")
    for each in ["before", "after"]:
        tried = openssl(place, f"s_client -connect {server} -CAfile {each} -verify_return_error -brief", check=False)
        assert (tried.returncode == 0) == (each == "after" or name != "tls"), tried.stderr
