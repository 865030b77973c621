"""docs/monitoring.md, the dashboard and the rules name metrics and labels that there are; promtool has its say."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mounting import PROJECT
from scraping import promtool

from vtlfs.metrics import library, mount
from vtlfs.metrics.values import Kind, Metric

DOCS = Path(PROJECT) / "docs"
MANUAL, DASHBOARD = DOCS / "monitoring.md", DOCS / "monitoring/grafana.json"
RULES, CASES = DOCS / "monitoring/alerts.yml", Path(__file__).parent / "alerts_test.yml"
METRICS = {metric.name: metric for metric in (*mount.METRICS, *library.METRICS)}
OF_OTHERS = {  # metrics of Prometheus, node_exporter and prometheus_client, with the labels that are used
    "up": {"job", "instance"},
    "node_textfile_mtime_seconds": {"file", "instance"},
    "process_resident_memory_bytes": {"instance"},
}
OF_PROMETHEUS = {"instance", "job", "le"}
NAME = re.compile(r"\b(?:vtlfs_(?:mount|library)_\w+|up|node_\w+|process_\w+)\b")
SELECTOR = re.compile(rf"({NAME.pattern})\{{([^}}]*)\}}")
GROUPING = re.compile(r"\b(?:by|on|without|ignoring) \(([^)]*)\)")


def metric_of(name: str) -> Metric | None:
    """Return the metric of a series: those of a histogram have suffixes."""
    base = re.sub(r"_(bucket|count|sum)$", "", name)
    if base != name and base in METRICS:
        assert METRICS[base].kind is Kind.HISTOGRAM, name
        return METRICS[base]
    return METRICS.get(name)


def labels_of(name: str) -> set[str]:
    """Return the labels of a series. Fails where there is no such series."""
    metric = metric_of(name)
    if metric is None:
        assert name in OF_OTHERS, f"there is no {name}"
        return OF_OTHERS[name]
    assert metric.kind is not Kind.HISTOGRAM or name != metric.name, f"{name} is a histogram: it has no value"
    return {"library", *metric.labels, *OF_PROMETHEUS}


def check(expression: str) -> None:
    """Assert that an expression names series and labels that there are."""
    names = NAME.findall(expression)
    assert names, expression
    known = set.union(*(labels_of(name) for name in names))
    for name, matchers in SELECTOR.findall(expression):
        for label in re.findall(r"(\w+)\s*=~?|(\w+)\s*!", re.sub(r'"[^"]*"', '""', matchers)):
            assert (label[0] or label[1]) in labels_of(name), expression
    for group in GROUPING.findall(expression):
        assert {label.strip() for label in group.split(",")} <= known, expression


def expressions_of(document: Any) -> Iterator[str]:
    """Yield the expressions of a dashboard."""
    for panel in document["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]


def rules() -> list[str]:
    """Return the expressions of the rules: of one line, or folded."""
    text = RULES.read_text()
    found = re.findall(r"^ +expr: (?!>)(.+)$|^ +expr: >-\n((?: {10}.+\n)+)", text, re.MULTILINE)
    assert len(found) == text.count("- alert:")
    return [one or " ".join(folded.split()) for one, folded in found]


def test_manual_has_each_metric_in_its_table() -> None:
    text = MANUAL.read_text()
    for metric in METRICS.values():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        row = f"| `{metric.name}` | {metric.kind} | {labels}{' ' if labels else ''}| {metric.help} |"
        assert row in text
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == METRICS.keys()
    for name in set(re.findall(r"\bvtlfs_(?:mount|library)_\w+", text)):
        assert metric_of(name), name


def test_dashboard_names_what_there_is() -> None:
    document = json.loads(DASHBOARD.read_text())
    expressions = list(expressions_of(document))
    assert len(expressions) > 40
    for expression in expressions:
        check(expression)
    identifiers = [panel["id"] for panel in document["panels"]]
    assert len(set(identifiers)) == len(identifiers)
    assert {one["name"] for one in document["templating"]["list"]} == {"datasource", "library"}
    for panel in document["panels"]:
        for target in panel.get("targets", ()):
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            available = {"library"} if not NAME.findall(target["expr"]) else set()
            for name in NAME.findall(target["expr"]):
                available |= labels_of(name)
            assert named <= available, target
            groups = GROUPING.findall(target["expr"])
            if "by (" in target["expr"] and groups:
                assert named <= {label.strip() for group in groups for label in group.split(",")}, target


def test_rules_name_what_there_is() -> None:
    for expression in rules():
        check(expression)


def test_dashboard_and_rules_show_what_matters() -> None:
    """Each metric of a library but those that only inform is in the dashboard or in a rule."""
    used = set(NAME.findall(" ".join([*expressions_of(json.loads(DASHBOARD.read_text())), *rules()])))
    plain = {
        *("vtlfs_library_disk_info", "vtlfs_library_disk_stored_bytes", "vtlfs_library_disk_fault_timestamp_seconds"),
        *("vtlfs_library_repair_running", "vtlfs_library_media", "vtlfs_library_media_bytes"),
        *("vtlfs_library_media_tape_files", "vtlfs_library_sessions_total", "vtlfs_library_tape_files_total"),
        *("vtlfs_library_tape_file_bytes_total", "vtlfs_library_open_sessions", "vtlfs_library_snapshots"),
        "vtlfs_library_info",
    }
    assert {metric.name for metric in library.METRICS} - used == plain


@pytest.mark.parametrize("broken", ["vtlfs_mount_nothing", "vtlfs_mount_info{colour='x'}", "sum by (hue) (up)"])
def test_check_finds_what_is_wrong(broken: str) -> None:
    with pytest.raises(AssertionError):
        check(broken)


def test_promtool_accepts_the_rules() -> None:
    done = subprocess.run([promtool(), "check", "rules", RULES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_fire_when_they_should() -> None:
    done = subprocess.run([promtool(), "test", "rules", CASES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_systemd_accepts_the_units_of_the_manual(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    found = re.findall(r"`/etc/systemd/system/([\w.-]+)`:\n```ini\n(.*?)```", MANUAL.read_text(), re.DOTALL)
    assert [name for name, _ in found] == ["vtlfs-metrics.service", "vtlfs-metrics.timer"]
    for name, text in found:
        (tmp_path / name).write_text(text.replace("/usr/local/bin/vtlfs ", f"{sys.executable} -m vtlfs "))
    words = ["systemd-analyze", "verify", "--man=no", *(tmp_path / name for name, _ in found)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
