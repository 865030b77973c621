"""How much data still fits on the disks, once each stripe has its parity: what `df` of a mount and `vtlfs status` show.

Pure. It follows `Dealer`, which fills the disks together: the disk with the most free space has an extent in every
stripe, and each stripe has as many extents of parity.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable

from vtlfs.engine.layout.dealer import STRIPED, WIDEST, Candidate


def room(disks: Iterable[Candidate], parity: int) -> int:
    """Return how many bytes of long streams fit into the free space of the disks, before stripes lack parity.

    The free space of a device counts once, however many disks lie on it. The streams lie on two disks at least, and
    each stripe on `parity + 1`; so a disk is not filled that is larger than those that go with it.
    """
    places = _places(list(disks), parity)
    fewest = max(parity + 1, STRIPED)
    if len(places) < fewest:
        return 0
    rounds = _rounds(places, fewest)
    used = sum(min(free, rounds) for free in places)
    return max(0, used - parity * max(rounds, -(-used // (WIDEST + parity))))


def _places(disks: list[Candidate], parity: int) -> list[int]:
    """Return the free bytes of the places that a stripe can lie on: devices, or the disks where those are too few."""
    sharing = Counter(disk.device for disk in disks)
    if parity and len(sharing) > parity:
        devices: dict[int, int] = defaultdict(int)
        for disk in disks:
            devices[disk.device] = max(devices[disk.device], disk.free)
        return list(devices.values())
    return [disk.free // sharing[disk.device] for disk in disks]


def _rounds(places: list[int], fewest: int) -> int:
    """Return how many bytes each place gives at most, so that for each byte of them `fewest` places give one."""
    most_first = sorted(places, reverse=True)
    return min(most_first[0], *(sum(most_first[larger:]) // (fewest - larger) for larger in range(fewest)))
