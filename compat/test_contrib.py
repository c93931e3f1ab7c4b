"""Files for who runs Inborn, as texts: alert rules, the dashboard, the recipe of an image."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from netlab import CI

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CONTRIB = ROOT / "contrib"
ALERTS = CONTRIB / "monitoring/alerts.yaml"
DASHBOARD = CONTRIB / "monitoring/dashboard.json"

#: Functions and words of PromQL that rules and panels may use, and the labels that are ours or Prometheus's own.
FUNCTIONS = {"changes", "count", "increase", "max", "min", "predict_linear", "rate", "sum", "time"}
WORDS = {"and", "by", "or", "unless", "up"}
LABELS = {"action", "code", "instance", "job", "of", "outcome", "reason", "region", "result", "service", "version"}
CLOSES = {")": "(", "]": "[", "}": "{"}
DURATION = re.compile(r"\d+[smhd]")


@pytest.fixture(scope="module")
def promtool() -> str:
    """Prometheus's own tool; on CI it is there."""
    found = shutil.which("promtool")
    if found is None:
        reason = "NOT TESTED: there is no promtool here (on Debian it is in the package prometheus)"
        if CI:
            pytest.fail(reason)
        print(f"!! {reason}", file=sys.stderr)
        pytest.skip(reason)
    return found


def faults(expression: str, metrics: set[str]) -> list[str]:
    """What is wrong with an expression: brackets, quotes, names, durations of ranges, and counters without a range."""
    found: list[str] = []
    bare = re.sub(r'"[^"]*"', '""', expression)
    if bare.count('"') % 2:
        found.append("a quote that does not end")
    opened: list[str] = []
    for character in bare:
        if character in "([{":
            opened.append(character)
        elif character in CLOSES and (not opened or opened.pop() != CLOSES[character]):
            found.append(f"a {character} that nothing opens")
    if opened:
        found.append(f"{opened} is not closed")
    found += [f"[{inner}] is no range" for inner in re.findall(r"\[([^\]]*)\]", bare) if not DURATION.fullmatch(inner)]
    for labels in re.findall(r"\{([^}]*)\}", bare):
        for matcher in labels.split(","):
            matched = re.fullmatch(r'\s*(\w+)\s*(=|!=|=~|!~)\s*""\s*', matcher)
            if not matched or matched[1] not in LABELS:
                found.append(f"{matcher} matches no label")
    for names in re.findall(r"\bby\s*\(([^)]*)\)", bare):
        found += [f"{name} is no label" for name in re.split(r"\s*,\s*", names.strip()) if name not in LABELS]
    outside = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\bby\s*\([^)]*\)", "", bare)
    for word, call in re.findall(r"([A-Za-z_]\w*)\s*(\()?", outside):
        known = FUNCTIONS if call and word not in WORDS else WORDS | FUNCTIONS | metrics
        if word not in known:
            found.append(f"{word} is not known")
    for name in re.findall(r"\binborn_\w+_total\b", bare):
        if not re.search(rf"\b(rate|increase)\({name}(\{{[^}}]*\}})?\[", expression):
            found.append(f"{name} counts from the start: rate or increase")
    return found


def metrics_of_the_source() -> set[str]:
    """All names of metrics that are registered, as they are served."""
    text = "".join(path.read_text() for path in sorted((ROOT / "crates").glob("*/src/**/*.rs")))
    names = set(re.findall(r'"(inborn_[a-z0-9_]+)"', text))
    return {name + suffix for name in names for suffix in ("", "_total", "_info")}


def expressions() -> list[str]:
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert len(rules) >= 15 and len(asked) >= 20
    return [rule["expr"] for rule in rules] + asked


def test_rules_are_rules():
    document = yaml.safe_load(ALERTS.read_text())
    assert set(document) == {"groups"}
    for group in document["groups"]:
        assert set(group) == {"name", "rules"}
        for rule in group["rules"]:
            assert (
                {"alert", "expr", "labels", "annotations"}
                <= set(rule)
                <= {"alert", "expr", "for", "labels", "annotations"}
            ), rule
            assert rule["labels"]["severity"] in ("critical", "warning"), rule
            assert set(rule["annotations"]) == {"summary", "description"}, rule
            assert DURATION.fullmatch(rule.get("for", "1m")), rule
            for text in rule["annotations"].values():
                holes = re.findall(r"\{\{(.*?)\}\}", text)
                assert text.count("{{") == text.count("}}") == len(holes), text
                for hole in holes:
                    label = re.fullmatch(r" \$labels\.(\w+) | \$value ", hole)
                    assert label and (label[1] is None or label[1] in LABELS), text


def test_expressions_are_whole_and_speak_of_what_there_is():
    metrics = metrics_of_the_source()
    assert len(metrics) > 60
    for expression in expressions():
        assert faults(expression.replace("$job", "inborn"), metrics) == [], expression


@pytest.mark.parametrize(
    "expression",
    [
        "sum(inborn_ready",
        "sum(inborn_ready))",
        'inborn_ready{job="inborn"',
        'inborn_ready{job="inborn}',
        'inborn_ready{pod="x"}',
        "inborn_readyy == 0",
        "rat(inborn_verify_total[5m])",
        "rate(inborn_verify_total[5])",
        "rate(inborn_verify_total[5m)]",
        "inborn_verify_total > 0",
        "sum by (pod) (rate(inborn_verify_total[5m]))",
        "inborn_ready adn inborn_hosts",
    ],
)
def test_what_is_wrong_with_an_expression_is_found(expression: str):
    assert faults(expression, {"inborn_ready", "inborn_verify_total", "inborn_hosts"})


def check_rules(promtool: str, path: Path) -> str:
    done = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_takes_the_rules(promtool: str):
    assert "SUCCESS: 20 rules found" in check_rules(promtool, ALERTS)


def test_promtool_takes_what_the_dashboard_asks(promtool: str, tmp_path: Path):
    """Each panel's expression as a rule that records it: so much is parsed by who will have to."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = [target["expr"].replace("$job", "inborn") for panel in panels for target in panel.get("targets", [])]
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(asked)]
    written = tmp_path / "rules.yaml"
    written.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"SUCCESS: {len(asked)} rules found" in check_rules(promtool, written)


@dataclass
class Story:
    """What is scraped, a value a minute from 0 on, and for whom an alert is raised at which minutes."""

    alert: str
    series: dict[str, str]
    #: The labels of each alert that is raised then, beside the rule's own; and its value, if the rule tells it.
    raised: dict[int, list[dict[str, str]]]


A, B = {"instance": "a"}, {"instance": "b"}
BEAT_OF_A = {**A, "of": "beat"}
STALE = 'inborn_stale_calls_total{instance="a",outcome="refused",service="sts"}'
STALE_IN_A = {**A, "outcome": "refused", "service": "sts"}
STORIES = [
    Story(
        "InbornDown",
        {'up{job="inborn",instance="a"}': "1x9", 'up{job="inborn",instance="b"}': "1 1 0x9", 'up{job="x"}': "0x9"},
        {3: [], 4: [{**B, "job": "inborn"}]},
    ),
    # Two minutes at a time.
    Story("InbornNotReady", {'inborn_ready{instance="a"}': "1 0 0 1 0x9"}, {2: [], 3: [], 5: [], 6: [A]}),
    Story("InbornAuditLinesLost", {'inborn_audit_lines_lost_total{instance="a"}': "0x5 3x20"}, {5: [], 6: [A]}),
    # Over five minutes, and no longer; a minute after it was seen.
    Story("InbornStale", {STALE: "0x5 4x20"}, {6: [], 7: [STALE_IN_A], 10: [STALE_IN_A], 12: []}),
    Story(
        "InbornFleetSilent",
        {'inborn_fleet_silence_seconds{instance="a",of="beat"}': "0 10 11 12 13 0 0"},
        {2: [], 3: [{**BEAT_OF_A, "$value": "12"}], 4: [{**BEAT_OF_A, "$value": "13"}], 5: []},
    ),
    # At more than one call a second, and more refused than not.
    Story(
        "InbornRefusals",
        {
            'inborn_verify_total{instance="a",result="refused",reason="x"}': "0+70x40",
            'inborn_verify_total{instance="a",result="verified",reason=""}': "0+30x40",
            'inborn_verify_total{instance="b",result="refused",reason="x"}': "0+30x40",
            'inborn_verify_total{instance="b",result="verified",reason=""}': "0+70x40",
        },
        {10: [], 30: [A]},
    ),
    Story("InbornDiskFull", {'inborn_disk_free_bytes{instance="a"}': "40e9-100e6x200"}, {60: [], 120: [A]}),
    Story("InbornRestarts", {'inborn_start_time_seconds{instance="a"}': "1 2 3 4 5 5x20"}, {3: [], 4: [A]}),
    Story("InbornHostAway", {'inborn_host_region_heard_time_seconds{instance="a"}': "0x40"}, {20: [], 21: [A]}),
    # Hosts that are told to come again are no strangers.
    Story(
        "InbornHostsRefused",
        {
            'inborn_hosts_refused_total{instance="a",code="busy"}': "0+100x20",
            'inborn_hosts_refused_total{instance="b",code="evicted"}': "0+2x20",
        },
        {2: [], 10: [{**B, "code": "evicted"}]},
    ),
    # And hosts that are no strangers, but many, and for long.
    Story(
        "InbornHostsTurnedAway",
        {
            'inborn_hosts_refused_total{instance="a",code="busy"}': "0+40x40",
            'inborn_hosts_refused_total{instance="a",code="unavailable"}': "0+40x40",
            'inborn_hosts_refused_total{instance="b",code="busy"}': "0+50x40",
            'inborn_hosts_refused_total{instance="b",code="evicted"}': "0+50x40",
        },
        {15: [], 30: [A]},
    ),
    Story(
        "InbornBalancerRefused",
        {
            'inborn_balancer_connections_refused_total{instance="a",reason="x"}': "0+1x20",
            'inborn_balancer_connections_refused_total{instance="b",reason="x"}': "0+2x20",
        },
        {2: [], 10: [{**B, "reason": "x"}]},
    ),
    Story("InbornHostAwayLong", {'inborn_host_region_heard_time_seconds{instance="a"}': "0x200"}, {185: [], 186: [A]}),
    Story(
        "InbornMachinesWithoutCredentials",
        {'inborn_host_machines_without_credentials{instance="a"}': "0 0 3x10"},
        {6: [], 7: [{**A, "$value": "3"}]},
    ),
    Story("InbornChangesRefused", {'inborn_audit_mutations_refused_total{instance="a"}': "0x5 1x20"}, {5: [], 6: [A]}),
    Story(
        "InbornTelemetryDamaged",
        {
            'inborn_telemetry_log_damaged_places_total{instance="a"}': "0x5 1x20",
            'inborn_telemetry_unreadable_files_total{instance="b"}': "0x9 1x20",
        },
        {5: [], 6: [A], 10: [A, B]},
    ),
    # What fails now and then, and what waits for its turn, is nothing to look at.
    Story(
        "InbornTelemetryWaits",
        {
            'inborn_telemetry_delivery_failures_total{instance="a"}': "0+1x40",
            'inborn_telemetry_waiting_files{instance="a"}': "2x40",
            'inborn_telemetry_delivery_failures_total{instance="b"}': "0+1x40",
            'inborn_telemetry_waiting_files{instance="b"}': "0x40",
            'inborn_telemetry_delivery_failures_total{instance="c"}': "0x40",
            'inborn_telemetry_waiting_files{instance="c"}': "2x40",
        },
        {15: [], 20: [A]},
    ),
    Story(
        "InbornDiskLow",
        {
            'inborn_disk_free_bytes{instance="a"}': "1073741824x5 1073741823x20",
            'inborn_disk_free_bytes{instance="b"}': "1073741824x30",
        },
        {15: [], 16: [A]},
    ),
    Story(
        "InbornMetadataRefused",
        {
            'inborn_imds_throttled_total{instance="a",outcome="refused"}': "0+70x40",
            'inborn_imds_throttled_total{instance="a",outcome="delayed"}': "0+70x40",
            'inborn_imds_throttled_total{instance="b",outcome="refused"}': "0+50x40",
        },
        {15: [], 30: [{**A, "outcome": "refused"}]},
    ),
    # Of what the rule counts no label is left.
    Story(
        "InbornVersionsDiffer",
        {f'inborn_build_info{{instance="{one}",version="{one}"}}': "1x1500" for one in "ab"},
        {1439: [], 1440: [{}]},
    ),
]


def test_every_rule_has_its_story():
    rules = [rule["alert"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert sorted(story.alert for story in STORIES) == sorted(rules)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.alert)
def test_rules_are_raised_when_they_should_be(promtool: str, tmp_path: Path, story: Story):
    rules = {rule["alert"]: rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]}
    rule = rules[story.alert]

    def told(known: dict[str, str]) -> dict:
        holes = {f"$labels.{name}": value for name, value in known.items()} | {"$value": known.get("$value", "")}
        fill = lambda text: re.sub(r"\{\{ (.*?) \}\}", lambda hole: holes[hole[1]], text)  # noqa: E731
        labels = {name: value for name, value in known.items() if name != "$value"}
        texts = {name: fill(text) for name, text in rule["annotations"].items()}
        return {"exp_labels": rule["labels"] | labels, "exp_annotations": texts}

    moments = [
        {"alertname": story.alert, "eval_time": f"{minute}m", "exp_alerts": [told(one) for one in raised]}
        for minute, raised in story.raised.items()
    ]
    series = [{"series": name, "values": values} for name, values in story.series.items()]
    test = {"interval": "1m", "input_series": series, "alert_rule_test": moments}
    written = tmp_path / "test.json"
    written.write_text(json.dumps({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [test]}))
    done = subprocess.run([promtool, "test", "rules", written], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def is_sent(path: str) -> bool:
    """Whether .dockerignore lets a file into the build: the last line that matches it, or a directory above, counts."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern, takes = (line[1:], True) if line.startswith("!") else (line, False)
        if not pattern or line.startswith("#"):
            continue
        parts = path.split("/")
        above = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        if pattern.startswith("**/"):
            matches = any(fnmatch.fnmatchcase(part, pattern[3:]) for part in parts)
        else:
            matches = any(fnmatch.fnmatchcase(one, pattern) for one in above if one.count("/") == pattern.count("/"))
        sent = takes if matches else sent
    return sent


def test_the_image_is_built_of_sources_alone():
    for path in [
        "Cargo.toml",
        "Cargo.lock",
        "crates/cli/src/main.rs",
        "crates/store/migrations/0001.sql",
        "xtask/Cargo.toml",
    ]:
        assert (ROOT / path).is_file() and is_sent(path), path
    for path in [
        "target/release/inborn",
        ".git/config",
        "compat/.venv/bin/python",
        "compat/rust/target/debug/x",
        "fuzz/target/x",
        "crates/cli/target/x",
        "epoch.key",
        "operator.env",
        "data/inborn.db",
    ]:
        assert not is_sent(path), path
    members = re.search(r"^members = \[(.*)\]", (ROOT / "Cargo.toml").read_text(), re.M)[1]
    assert all(is_sent(member.strip('"').removesuffix("/*") + "/x") for member in members.split(", "))


def test_the_image_is_built_with_the_pinned_rust_and_tells_its_ports():
    recipe = (CONTRIB / "Containerfile").read_text()
    pinned = re.search(r'^channel = "(\d+\.\d+)\.\d+"', (ROOT / "rust-toolchain.toml").read_text(), re.M)[1]
    assert re.findall(r"^ARG BUILDER=docker\.io/library/rust:(\S+)$", recipe, re.M) == [f"{pinned}-bookworm"]
    assert re.findall(r"^FROM (.+)$", recipe, re.M) == ["${BUILDER} AS build", "${BASE}"]
    settings = (ROOT / "crates/cli/src/settings.rs").read_text()
    ports = re.findall(r"^const DEFAULT_\w*PORT: u16 = (\d+);$", settings, re.M)
    assert len(ports) >= 3
    assert sorted(re.search(r"^EXPOSE (.+)$", recipe, re.M)[1].split()) == sorted(ports)
