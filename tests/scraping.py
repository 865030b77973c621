"""Scraping the metrics of a mount, as Prometheus does."""

import re
import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from mounting import SECONDS, Mounted, wait_until
from prometheus_client.parser import text_string_to_metric_families

SERVED = re.compile(r"metrics are served at (http://\S+)")
ANY_PORT = "metrics=127.0.0.1:0"


class Scraped:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = list(text_string_to_metric_families(text))
        self.samples = [(one.name, one.labels, one.value) for family in self.families for one in family.samples]

    def value(self, name: str, **labels: object) -> float:
        """Return the one sample of this name that has these labels."""
        found = self.values(name, **labels)
        assert len(found) == 1, (name, labels, found)
        return found[0]

    def values(self, name: str, **labels: object) -> list[float]:
        """Return all samples of this name that have these labels."""
        wanted = {key: str(value) for key, value in labels.items()}.items()
        return [value for named, having, value in self.samples if named == name and wanted <= having.items()]

    def library(self) -> set[tuple[str, frozenset[tuple[str, str]], float]]:
        """Return the samples of the library."""
        found = [one for one in self.samples if one[0].startswith("vtlfs_library_")]
        return {(name, frozenset(labels.items()), value) for name, labels, value in found}


def url_of(mounted: Mounted) -> str:
    """Return where a mount serves its metrics."""
    found = SERVED.findall(mounted.said())
    return str(found[-1])


def scrape(url: str) -> Scraped:
    """Scrape an address."""
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:
        assert answer.status == 200
        return Scraped(answer.read().decode())


def scrape_until(url: str, condition: Callable[[Scraped], Any], what: str) -> Scraped:
    """Scrape until the condition is true; return that scrape."""
    last: list[Scraped] = []

    def is_true() -> bool:
        last[:] = [scrape(url)]
        return bool(condition(last[0]))

    wait_until(is_true, what)
    return last[0]


def check_by_promtool(text: str) -> None:
    """Assert that Prometheus' own tool finds nothing wrong with metrics, in form and in names."""
    done = subprocess.run([promtool(), "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def promtool() -> str:
    """Return the path of promtool; skip the test on a machine without it."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed: Debian's package prometheus has it")
    return found
