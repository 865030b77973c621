"""Computes how much data still fits on the disks beside its parity, for `df` of a mount and for `vtlfs status`. Pure.

The computation follows `Dealer`, which fills the disks together: the disk with the most free space gets an extent of
every stripe, and every stripe has the same number of parity extents.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable

from vtlfs.engine.layout.dealer import STRIPED, WIDEST, Candidate


def room(disks: Iterable[Candidate], parity: int) -> int:
    """Return how many bytes of long streams fit into the free space of the disks, before stripes lack parity.

    The free space of a device counts once, however many disks lie on it. A stream lies on at least two disks, and a
    stripe on at least `parity + 1`; so a part of a disk stays free that is too large for the others.
    """
    places = _places(list(disks), parity)
    fewest = max(parity + 1, STRIPED)
    if len(places) < fewest:
        return 0
    rounds = _rounds(places, fewest)
    used = sum(min(free, rounds) for free in places)
    return max(0, used - parity * max(rounds, -(-used // (WIDEST + parity))))


def _places(disks: list[Candidate], parity: int) -> list[int]:
    """Return the free bytes of each place for extents: of each device, or of each disk if the devices are too few."""
    sharing = Counter(disk.device for disk in disks)
    if parity and len(sharing) > parity:
        devices: dict[int, int] = defaultdict(int)
        for disk in disks:
            devices[disk.device] = max(devices[disk.device], disk.free)
        return list(devices.values())
    return [disk.free // sharing[disk.device] for disk in disks]


def _rounds(places: list[int], fewest: int) -> int:
    """Return how many bytes a place can give at most, if `fewest` places have to give one byte each at a time."""
    most_first = sorted(places, reverse=True)
    return min(most_first[0], *(sum(most_first[larger:]) // (fewest - larger) for larger in range(fewest)))
