"""A library to tamper with, made once and copied for each case."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mounting import require_fuse
from tampering import Tamper, copied, examine, prepare


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library as it is copied for each case."""
    require_fuse()
    root = tmp_path_factory.mktemp("model")
    prepare(root)
    return root


@pytest.fixture
def survives(model: Path, tmp_path: Path) -> Callable[[dict[str, Tamper]], None]:
    """Return a function that tampers with copies of the library and asserts that every command survives that."""

    def call(tampers: dict[str, Tamper]) -> None:
        (tmp_path / "canary").write_bytes((model / "canary").read_bytes())
        cases = enumerate(tampers.items())
        places = [copied(model, tmp_path / name, tamper, number) for number, (name, tamper) in cases]
        wrong = examine(tmp_path, places)
        assert wrong == [], "\n".join(wrong)

    return call
