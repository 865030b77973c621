"""Inodes: the numbers by which the kernel names the nodes that it has looked up. Used in the trio loop of a mount.

A medium, or a pool, gets a fresh number from every look-up, so that every open() has an inode of its own: the kernel
serialises the writes to an inode, and keeps its size, page cache and attributes. Every other node has one number for
good. A number is kept until the kernel has forgotten it as often as it was handed out.
"""

from dataclasses import dataclass, field
from itertools import count

from pyfuse3 import ROOT_INODE, InodeT

from vtlfs.engine.memory import MemoryBudget
from vtlfs.engine.pool_streams import PoolStream
from vtlfs.engine.writing.session import WriteSession
from vtlfs.fs.nodes import FRESH, ROOT, MediumNode, Node, PoolNode, SessionNode, stable_number

INODE_BYTES = 1024  # memory of an inode and its medium, roughly
SESSION_BYTES = 1024  # memory of a session's text


@dataclass(slots=True)
class Inode:
    """A node that the kernel knows by a number, and how the node is open."""

    number: InodeT
    node: Node
    lookups: int = 0
    readers: int = 0  # how often it is open for reading
    cached_readers: int = 0  # of these, through the page cache
    writers: list[WriteSession | PoolStream] = field(default_factory=list)  # open for writing; stat() shows the first
    size: int = 0  # while it is open for writing: its length for the kernel
    writing: int = 0  # opens for writing, also those that are not answered yet
    written: bool = False  # has been open for writing
    cached: bool = False  # is written through the page cache
    told: bool = False  # a refusal of one more open for writing was logged


class Inodes:
    """All inodes that the kernel may still name, which are counted in the memory budget."""

    def __init__(self, memory: MemoryBudget) -> None:
        self._memory = memory
        root = Inode(ROOT_INODE, ROOT, lookups=1)
        self._inodes: dict[int, Inode] = {ROOT_INODE: root}
        self._fresh = count(FRESH)

    def __getitem__(self, number: InodeT) -> Inode:
        return self._inodes[number]

    def __len__(self) -> int:
        return len(self._inodes)

    def looked_up(self, node: Node) -> Inode:
        """Return the inode that answers a look-up."""
        if isinstance(node, MediumNode | PoolNode | SessionNode):
            return self._count(InodeT(next(self._fresh)), node)
        return self._count(InodeT(stable_number(node)), node)

    def listed(self, node: Node) -> Inode:
        """Return the inode of a directory's entry. The kernel opens no file by it without a look-up."""
        return self._count(InodeT(stable_number(node)), node)

    def forget(self, number: InodeT, lookups: int) -> None:
        """Subtract look-ups that the kernel has forgotten; drop the inode after the last."""
        inode = self._inodes.get(number)
        if inode is not None and number != ROOT_INODE:
            inode.lookups -= lookups
            if inode.lookups <= 0:
                del self._inodes[number]
                self._memory.hold(-_size(inode.node))

    def _count(self, number: InodeT, node: Node) -> Inode:
        inode = self._inodes.get(number)
        if inode is None:
            inode = self._inodes[number] = Inode(number, node)
            self._memory.hold(_size(node))
        inode.node = node
        inode.lookups += 1
        return inode


def _size(node: Node) -> int:
    """Return the memory of an inode. The kind of node that a number stands for never changes."""
    return INODE_BYTES + (SESSION_BYTES if isinstance(node, SessionNode) else 0)
