"""Telemetry as other programs read it: DuckDB over the tree, and OCSF's own schema over the columns and the events."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pytest
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

REPOSITORY = Path(__file__).resolve().parent.parent
ACCOUNT = "123456789012"
INSTANCE = "i-0123456789abcdef0"
NOON = 1_800_014_400_000
DAY = 86_400_000
SOURCES = {
    1001: "file",
    1002: "kernel-extension",
    1003: "kernel",
    1004: "memory",
    1005: "module",
    1007: "process",
    2004: "finding",
    3002: "authentication",
    4001: "network",
    4003: "dns",
    4007: "ssh",
    6003: "api",
}

PROCESS = {
    "pid": 4711,
    "uid": "p-1",
    "name": "bash",
    "cmd_line": "bash -i",
    "created_time": NOON - 5,
    "file": {"path": "/usr/bin/bash", "name": "bash", "type_id": 1},
    "user": {"uid": "1000", "name": "anna"},
    "parent_process": {"pid": 1, "name": "init"},
}
FILE = {"path": "/etc/passwd", "name": "passwd", "type_id": 1}
ENDPOINTS = {"src_endpoint": {"ip": "10.0.0.1", "port": 51234}, "dst_endpoint": {"ip": "127.0.0.1", "port": 4444}}

# One of each class, with what OCSF 1.3 requires of it.
EVENTS: list[dict[str, Any]] = [
    {"class_uid": 1001, "activity_id": 14, "file": FILE, "access_mask": 577},
    {"class_uid": 1002, "activity_id": 1, "driver": {"file": {"name": "rootkit.ko", "type_id": 1}}},
    {"class_uid": 1003, "activity_id": 4, "kernel": {"name": "dup", "type_id": 2, "system_call": "dup2"}},
    {"class_uid": 1004, "activity_id": 2, "process": PROCESS},
    {"class_uid": 1005, "activity_id": 1, "module": {"file": FILE, "load_type_id": 1}},
    {"class_uid": 1007, "activity_id": 1, "process": PROCESS | {"lineage": ["/sbin/init", "/usr/bin/bash"]}},
    {
        "class_uid": 2004,
        "activity_id": 1,
        "finding_info": {"uid": "f-1", "title": "A shell", "types": ["ReverseShell"]},
        "evidences": [{"process": PROCESS}, ENDPOINTS],
        "confidence_id": 3,
    },
    {"class_uid": 3002, "activity_id": 1, "user": {"name": "anna"}, "service": {"name": "sshd"}, "is_remote": True},
    {"class_uid": 4001, "activity_id": 1, "connection_info": {"direction_id": 2, "protocol_num": 6}, **ENDPOINTS},
    {
        "class_uid": 4003,
        "activity_id": 2,
        "query": {"hostname": "example.com", "type": "A"},
        "answers": [{"rdata": "192.0.2.1", "type": "A", "ttl": 60}, {"rdata": "192.0.2.2"}],
        "rcode_id": 0,
        **ENDPOINTS,
    },
    {"class_uid": 4007, "activity_id": 1, "protocol_ver": "2.0", **ENDPOINTS},
    {
        "class_uid": 6003,
        "activity_id": 2,
        "api": {"operation": "GetCallerIdentity", "service": {"name": "sts"}},
        "src_endpoint": {"ip": "10.0.0.1"},
    },
]


def event(number: int, given: dict[str, Any], time: int) -> dict[str, Any]:
    class_uid = given["class_uid"]
    return {
        "category_uid": class_uid // 1000,
        "type_uid": class_uid * 100 + given["activity_id"],
        "severity_id": 1,
        "time": time,
        "metadata": {
            "version": "1.3.0",
            "uid": f"e-{number}",
            "profiles": ["cloud", "host"],
            "product": {"name": "sensor", "vendor_name": "Inborn"},
        },
        "device": {"uid": INSTANCE, "type_id": 6, "hostname": "web-1"},
        "cloud": {"provider": "AWS", "region": "eu-west-1", "account": {"uid": ACCOUNT}},
        "actor": {"process": PROCESS},
    } | given


@pytest.fixture(scope="module")
def given() -> list[dict[str, Any]]:
    """Each class twice a day for two days, the later ones first; and one event with what no column has."""
    times = (NOON + 7, NOON, NOON - DAY)
    events = [event(number * 3 + at, one, time) for number, one in enumerate(EVENTS) for at, time in enumerate(times)]
    strange = {
        "class_uid": 1007,
        "activity_id": 1,
        "process": PROCESS | {"pid": "many"},
        "x": [1],
        "unmapped": {"claimed": {"a": 1}},
    }
    return [*events, event(900, strange, NOON + 1)]


@pytest.fixture(scope="module")
def lake(given: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cargo") is None:
        pytest.skip("the lake is made by an example of its crate, which needs cargo")
    place = tmp_path_factory.mktemp("lake")
    command = ["cargo", "run", "--quiet", "-p", "inborn-lake", "--example", "fill", "--", str(place), ACCOUNT, INSTANCE]
    lines = "".join(json.dumps(one) + "\n" for one in given)
    subprocess.run(command, cwd=REPOSITORY, input=lines, text=True, check=True)
    return place


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return get_ocsf_schema(version="1.3.0")


@pytest.mark.timeout(600)
def test_every_object_is_where_security_lake_wants_it(lake: Path, given: list[dict[str, Any]]):
    names = [str(path.relative_to(lake)) for path in (lake / "ext").rglob("*") if path.is_file()]
    uuid = r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    form = rf"ext/inborn-([a-z-]+)/region=eu-west-1/accountId={ACCOUNT}/eventDay=(2027011[45])/{uuid}\.parquet"
    found = sorted(re.fullmatch(form, name).groups() for name in names)
    assert found == sorted((source, day) for source in SOURCES.values() for day in ("20270114", "20270115"))
    assert not list((lake / "log").glob("*.log")), "the log is Parquet now"
    assert not (lake / "staging").exists()


def test_objects_are_written_as_security_lake_wants_them(lake: Path):
    for path in (lake / "ext").rglob("*.parquet"):
        columns = duckdb.sql(f"SELECT * FROM parquet_metadata('{path}')").fetchall()
        names = [column[0] for column in duckdb.sql(f"DESCRIBE SELECT * FROM parquet_metadata('{path}')").fetchall()]
        for column in (dict(zip(names, values, strict=True)) for values in columns):
            assert column["compression"] == "ZSTD", column
            assert column["row_group_compressed_bytes"] <= 256 << 20
            if column["path_in_schema"] == "time":
                assert column["stats_min_value"] is not None
                assert column["stats_max_value"] is not None
        times = [row[0] for row in duckdb.sql(f"SELECT time FROM read_parquet('{path}')").fetchall()]
        assert times == sorted(times)
        assert len(duckdb.sql(f"SELECT DISTINCT class_uid FROM read_parquet('{path}')").fetchall()) == 1


def test_duckdb_sees_the_partitions_and_the_groups(lake: Path, given: list[dict[str, Any]]):
    rows = duckdb.sql(f"""
        SELECT accountId::VARCHAR, eventDay::VARCHAR, process.file.path, process.lineage,
               actor.process.parent_process.pid, metadata.uid, device.uid, unmapped
        FROM read_parquet('{lake}/ext/inborn-process/**/*.parquet', hive_partitioning = true)
        ORDER BY time, metadata.uid
    """).fetchall()
    ordinary = ("/usr/bin/bash", ["/sbin/init", "/usr/bin/bash"], 1)
    assert [row[:5] for row in rows] == [
        (ACCOUNT, "20270114", *ordinary),
        (ACCOUNT, "20270115", *ordinary),
        (ACCOUNT, "20270115", "/usr/bin/bash", None, 1),
        (ACCOUNT, "20270115", *ordinary),
    ]
    assert json.loads(rows[2][7]) == {"claimed": {"a": 1}, "beyond_columns": {"process": {"pid": "many"}, "x": [1]}}
    answers = duckdb.sql(
        f"SELECT answers[1].rdata, len(answers), answers[2].ttl FROM '{lake}/ext/inborn-dns/**/*.parquet'"
    )
    assert answers.fetchall() == [("192.0.2.1", 2, None)] * 3
    total = duckdb.sql(f"SELECT count(*) FROM read_parquet('{lake}/ext/**/*.parquet', union_by_name = true)").fetchall()
    assert total == [(len(given),)]


def leaves(path: tuple[str, ...], kind: duckdb.DuckDBPyType) -> list[tuple[tuple[str, ...], str, bool]]:
    """Columns below one: path, type, and whether there are many of it."""
    match kind.id:
        case "struct":
            return [leaf for name, child in kind.children for leaf in leaves((*path, name), child)]
        case "list":
            return [(below, name, True) for below, name, _ in leaves(path, dict(kind.children)["child"])]
        case name:
            return [(path, name, False)]


@pytest.mark.parametrize("class_uid", SOURCES)
def test_every_column_is_an_attribute_of_ocsf(lake: Path, schema: dict[str, Any], class_uid: int):
    ((name, attributes),) = (
        (key, one["attributes"]) for key, one in schema["classes"].items() if one["uid"] == class_uid
    )
    path = next((lake / "ext" / f"inborn-{SOURCES[class_uid]}").rglob("*.parquet"))
    relation = duckdb.sql(f"SELECT * FROM read_parquet('{path}', hive_partitioning = false)")
    wrong = []
    # OCSF has no device in what clouds' interfaces tell; here it is who told it, by which events are found.
    if class_uid == 6003:
        attributes = attributes | {"device": schema["classes"]["process_activity"]["attributes"]["device"]}
    for column, kind in zip(relation.columns, relation.types, strict=True):
        for leaf, kind_name, _ in leaves((column,), kind):
            at, place = attributes, None
            for part in leaf:
                place = at.get(part)
                if place is None:
                    break
                at = schema["objects"].get(place.get("object_type", ""), {}).get("attributes", {})
            if place is None:
                wrong.append(".".join(leaf))
                continue
            base = place["type"]
            base = schema["types"].get(base, {}).get("type", base)
            expected = {
                "varchar": {"string_t", "object_t", "json_t"},
                "integer": {"integer_t"},
                "bigint": {"long_t", "integer_t"},
                "double": {"float_t"},
                "boolean": {"boolean_t"},
            }[kind_name]
            if base not in expected:
                wrong.append(f"{'.'.join(leaf)}: {kind_name}, OCSF has {base}")
    assert wrong == [], name


@pytest.mark.parametrize("class_uid", SOURCES)
def test_events_read_back_are_events_of_ocsf(lake: Path, schema: dict[str, Any], class_uid: int):
    embedded = OcsfJsonSchemaEmbedded(schema)
    wanted = embedded.get_class_schema(embedded.lookup_class_name_from_uid(class_uid), ["cloud", "host"])
    validator = Draft202012Validator(wanted)
    path = lake / "ext" / f"inborn-{SOURCES[class_uid]}"
    query = f"SELECT to_json(t)::VARCHAR FROM read_parquet('{path}/**/*.parquet', hive_partitioning = false) t"
    found = 0
    for (text,) in duckdb.sql(query).fetchall():
        read = present(json.loads(text))
        if "unmapped" in read:
            continue
        if class_uid == 6003:
            del read["device"]
        errors = [
            f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(read)
        ]
        assert errors == [], read
        found += 1
    assert found == 3


def present(value: Any) -> Any:
    """Without what is null: columns that a row does not have."""
    if isinstance(value, dict):
        return {name: present(one) for name, one in value.items() if one is not None}
    return [present(one) for one in value] if isinstance(value, list) else value
