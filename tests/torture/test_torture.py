"""Random damage to a killed library: no silent loss, and never a wrong byte. `make soak` does many more rounds."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from damage import defect, live_on
from killed import Killed

ROUNDS = int(os.environ.get("VTLFS_TORTURE", "12"))


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_every_stream_is_read_back_right_or_its_loss_is_named(
    again: Callable[[Path], Killed], tmp_path: Path, seed: int
) -> None:
    killed = again(tmp_path / "copy")
    done = defect(killed, random.Random(seed))
    outcome = live_on(killed)
    assert outcome.refused is None or "vtlfs rebuild" in outcome.refused
    assert outcome.wrong == [], done
    assert outcome.right.isdisjoint(outcome.lost)
    assert len(outcome.right) + len(outcome.lost) == len(killed.streams)
    assert outcome.named or not outcome.lost, f"{done}: {outcome.lost}"


def test_damage_is_done(again: Callable[[Path], Killed], tmp_path: Path) -> None:
    """Some rounds lose something and most lose nothing; otherwise the rounds would show little."""
    outcomes = []
    for seed in range(1000, 1008):
        killed = again(tmp_path / f"copy{seed}")
        defect(killed, random.Random(seed))
        outcomes.append(live_on(killed))
    assert any(outcome.refused for outcome in outcomes)
    assert any(len(outcome.right) == len(killed.streams) for outcome in outcomes)
