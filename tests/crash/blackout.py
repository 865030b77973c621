"""Computes what a disk may hold after a power cut, from the log of a `forgetful` file system.

Synced changes are there: of a file its bytes, length and mode, of a directory its names. Unsynced changes may be there
or not, in any combination that a disk and a strict reading of POSIX allow:

- a sector of 512 bytes is as it was after any write to it since the last sync, independently of other sectors;
- a file has any of the lengths that it has had since; bytes of it that never reached the disk read as zeros;
- each change of a directory has happened or not, independently of others; a rename happens as a whole.
"""

import os
import random
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = 1  # the number of the topmost directory
MARKS = b"acknowledged"  # a special file: a write to it adds a mark to the log
SECTOR = 512


@dataclass(frozen=True, slots=True)
class Make:
    """A file or a directory is made, without a name yet."""

    inode: int
    mode: int


@dataclass(frozen=True, slots=True)
class Link:
    """Names are changed, all at the same moment: (directory, name, inode); inode None: the name is removed."""

    links: tuple[tuple[int, bytes, int | None], ...]


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes are written."""

    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """The length of a file is changed."""

    inode: int
    size: int


@dataclass(frozen=True, slots=True)
class Mode:
    """A mode is changed."""

    inode: int
    mode: int


@dataclass(frozen=True, slots=True)
class Sync:
    """A file or a directory is synced."""

    inode: int


@dataclass(frozen=True, slots=True)
class Mark:
    """The run writes a line to the special file."""

    text: bytes


Step = Make | Link | Write | Truncate | Mode | Sync | Mark
Change = Write | Truncate | Mode


@dataclass
class Node:
    """The durable state of a file or directory, and its changes since."""

    mode: int
    content: bytes = b""
    entries: dict[bytes, int] = field(default_factory=dict)
    pending: list[Change] = field(default_factory=list)


class Disk:
    """The disk at some step of the log."""

    def __init__(self) -> None:
        self.nodes = {ROOT: Node(stat.S_IFDIR | 0o700)}
        self.links: list[Link] = []  # that are not durable
        self.version = 0  # a new object whenever more has become durable

    def play(self, steps: Iterable[Step]) -> None:
        """Apply further steps of the log."""
        for step in steps:
            if isinstance(step, Make):
                self.nodes[step.inode] = Node(step.mode)
            elif isinstance(step, Link):
                self.links.append(step)
            elif isinstance(step, Sync):
                self._sync(step.inode)
            elif not isinstance(step, Mark):
                self.nodes[step.inode].pending.append(step)

    def _sync(self, inode: int) -> None:
        node = self.nodes[inode]
        touching = [link for link in self.links if any(inode == parent for parent, _, _ in link.links)]
        self.version += bool(touching or node.pending)
        for link in touching:
            _apply(link, {number: node.entries for number, node in self.nodes.items()})
            self.links.remove(link)
        node.mode, node.content = _changed(node, node.pending, lambda number: True)
        node.pending.clear()

    def without_power(self, chance: random.Random | None) -> "Remains":
        """Return what is left if the power is cut now. `chance` of None: only what was synced."""
        entries = {number: dict(node.entries) for number, node in self.nodes.items()}
        if chance is not None:
            for link in _some(self.links, chance):
                _apply(link, entries)
        left = {
            number: (node.mode, node.content) if chance is None else _torn(node, chance)
            for number, node in self.nodes.items()
        }
        return Remains({number: (*left[number], entries[number]) for number in self.nodes})


@dataclass
class Remains:
    """The files that a power cut has left: the mode, the bytes and the names of each inode."""

    nodes: dict[int, tuple[int, bytes, dict[bytes, int]]]

    def write_out(self, place: Path) -> None:
        """Write these files and directories into an empty directory."""
        made: dict[int, Path] = {}

        def fill(directory: Path, inode: int) -> None:
            for name, child in self.nodes[inode][2].items():
                path = directory / os.fsdecode(name)
                mode, content, _ = self.nodes[child]
                if child in made:
                    path.hardlink_to(made[child])
                elif stat.S_ISDIR(mode):
                    path.mkdir()
                    fill(path, child)
                    path.chmod(stat.S_IMODE(mode))
                else:
                    path.write_bytes(content)
                    path.chmod(stat.S_IMODE(mode))
                    made[child] = path

        fill(place, ROOT)


def _apply(link: Link, directories: dict[int, dict[bytes, int]]) -> None:
    for parent, name, inode in link.links:
        directories[parent].pop(name, None)
        if inode is not None:
            directories[parent][name] = inode


def _some(links: list[Link], chance: random.Random) -> Iterator[Link]:
    """Yield the changes of names that reach the disk: none, all, all up to one, or any."""
    how = chance.choice(["none", "all", "first", "any"])
    reached = {"none": 0, "all": len(links)}.get(how, chance.randint(0, len(links)))
    for number, link in enumerate(links):
        if chance.random() < 0.5 if how == "any" else number < reached:
            yield link


def _torn(node: Node, chance: random.Random) -> tuple[int, bytes]:
    """Return the mode and the bytes of a file of which some changes have reached the disk.

    These are: none; all; all up to one, which may be torn; or for each sector, all up to one of its own.
    """
    count = len(node.pending)
    if not count:
        return node.mode, node.content
    how = chance.choice(["none", "all", "first", "torn", "any"])
    if how in ("none", "all"):
        return _changed(node, node.pending if how == "all" else [], lambda number: True)
    reached = chance.randint(0, count)
    torn: dict[int, int] = {}

    def is_there(number: int, sector: int) -> bool:
        if how == "first" or (how == "torn" and number != reached):
            return number < reached
        if how == "torn":
            return chance.random() < 0.5
        return number < torn.setdefault(sector, chance.randint(0, count))

    sizes = reached + (how == "torn" and chance.random() < 0.5)
    return _changed(node, node.pending, lambda number: number < sizes, is_there)


def _changed(
    node: Node,
    changes: list[Change],
    has_size: Callable[[int], bool],
    has_sector: Callable[[int, int], bool] = lambda number, sector: True,
) -> tuple[int, bytes]:
    """Return a node's mode and bytes after changes, of which some have reached the disk.

    `has_size(number)`: has what the change makes of the length; `has_sector(number, sector)`: have the bytes of it.
    """
    mode, content, size = node.mode, bytearray(node.content), len(node.content)
    for number, change in enumerate(changes):
        if isinstance(change, Mode):
            mode = change.mode if has_size(number) else mode
        elif isinstance(change, Truncate):
            if has_size(number):
                size = change.size
                del content[size:]
        else:
            end = change.offset + len(change.data)
            content.extend(bytes(max(0, end - len(content))))
            for start in range(change.offset - change.offset % SECTOR, end, SECTOR):
                first, last = max(start, change.offset), min(start + SECTOR, end)
                if has_sector(number, start // SECTOR):
                    content[first:last] = change.data[first - change.offset : last - change.offset]
            size = max(size, end) if has_size(number) else size
    return mode, bytes(content[:size].ljust(size, b"\0"))
