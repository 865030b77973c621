"""A mount with media of each rule of truncation, in each I/O mode."""

from collections.abc import Iterator

import pytest
from mounting import OnDisks, require_fuse
from truncated import BUSY, MEDIA, REFUSAL, RULES, Media, Truncated


@pytest.fixture(scope="module", params=["auto", "direct", "cached"])
def truncating(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Media]:
    """Return a function that returns a fresh medium of a rule."""
    require_fuse()
    library = OnDisks(tmp_path_factory.mktemp(request.param), media=f"A001..A{MEDIA}", unit=65536)
    library.add(f"E001..E{MEDIA}", f"R001..R{MEDIA}", "E.1.dar", "A.1.dar", "A2.1.dar")
    with open(library.path / "library.toml", "a") as file:
        file.write(RULES)
    numbers = iter(range(1, MEDIA + 1))
    with library.mounted(f"io={request.param}", allows=[REFUSAL, BUSY]) as mounted:
        yield lambda rule: Truncated(library, mounted, f"{rule[0].upper()}{next(numbers):03d}")
