"""A real Prometheus scrapes a real mount, loads the rules, and answers every question of the dashboard."""

import json
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from mounting import PROJECT, SECONDS, OnDisks, random_bytes, wait_until
from scraping import ANY_PORT, url_of

from vtlfs.model import MIB

DOCS = Path(PROJECT) / "docs/monitoring"
CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: vtlfs
    static_configs: [{{targets: ["{target}"]}}]
"""
# What has no answer in a library that is new, without a verification, and in which nothing has gone wrong.
QUIET = ("last_verification", "last_snapshot", "last_copy_timestamp", "session_errors", "request_errors")


class Prometheus:
    """A server of the Prometheus that is installed."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer."""
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(parameters)}", timeout=SECONDS) as said:
            return json.load(said)["data"]

    def ask(self, expression: str) -> list[Any]:
        """Return what an expression evaluates to. Raises HTTPError where that can't be done."""
        found: list[Any] = self.get("/api/v1/query", query=expression)["result"]
        return found

    def is_ready(self) -> bool:
        """Tell whether it answers."""
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/-/ready", timeout=SECONDS):
            return True
        return False


@contextmanager
def prometheus(root: Path, target: str) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes one target every second."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed")
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    config = root / "prometheus.yml"
    config.write_text(CONFIG.format(rules=DOCS / "alerts.yml", target=target))
    words = [
        f"--config.file={config}",
        f"--storage.tsdb.path={root / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with open(root / "prometheus.log", "wb") as log:
        process = subprocess.Popen([program, *words], stdout=log, stderr=log)
        try:
            found = Prometheus(f"http://127.0.0.1:{port}")
            wait_until(lambda: process.poll() is not None or found.is_ready(), "Prometheus")
            assert process.poll() is None, (root / "prometheus.log").read_text()
            yield found
        finally:
            process.terminate()
            process.wait()


def test_prometheus_answers_all_questions_of_the_dashboard_and_the_rules(library: OnDisks) -> None:
    document = json.loads((DOCS / "grafana.json").read_text())
    expressions = [target["expr"] for panel in document["panels"] for target in panel.get("targets", ())]
    with library.mounted(f"host=alpha,io=direct,{ANY_PORT}") as mounted:
        target = url_of(mounted).removeprefix("http://").partition("/")[0]
        with prometheus(library.root, target) as server:
            mounted.drive(1, "T1").write_bytes(random_bytes(1, 3 * MIB))
            mounted.drive(1, "T1").read_bytes()
            written = 'vtlfs_mount_session_bytes_total{access="write",drive="1",host="alpha"}'
            wait_until(lambda: server.ask(f"{written} == {3 * MIB}"), "the bytes of the stream in Prometheus")
            wait_until(lambda: server.ask(f"count_over_time({written}[1m]) > 2"), "several scrapes")
            for expression in expressions:
                asked = expression.replace("$library", ".*").replace("$__rate_interval", "1m")
                found = server.ask(asked)
                assert found or any(word in expression for word in QUIET), expression

            def rules() -> list[Any]:
                return [rule for group in server.get("/api/v1/rules")["groups"] for rule in group["rules"]]

            wait_until(lambda: all(rule["health"] == "ok" for rule in rules()), "an evaluation of each rule")
            assert not [rule["name"] for rule in rules() if rule["state"] == "firing"]
