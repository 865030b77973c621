"""Open directories of a mount, and how far readdir() has listed each. Used in the trio loop of a mount."""

from collections import deque
from dataclasses import dataclass, field
from itertools import count

import pyfuse3
from pyfuse3 import FileHandleT, FileNameT, ReaddirToken

from vtlfs.fs.attributes import Attributes
from vtlfs.fs.inodes import Inodes
from vtlfs.fs.nodes import Entry, Node
from vtlfs.fs.tree import Tree


@dataclass(slots=True)
class _Listing:
    """An open directory. `place`: of the last listed entry; `ahead`: entries read from the tree, not listed yet."""

    node: Node
    place: int = 0
    ahead: deque[Entry] = field(default_factory=deque)


class Listings:
    """The open directories by handle."""

    def __init__(self, tree: Tree, inodes: Inodes, attributes: Attributes) -> None:
        self._tree = tree
        self._inodes = inodes
        self._attributes = attributes
        self._listings: dict[int, _Listing] = {}
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._listings)

    def open(self, node: Node) -> FileHandleT:
        """Open a directory; return its handle."""
        number = FileHandleT(next(self._numbers))
        self._listings[number] = _Listing(node)
        return number

    def close(self, number: FileHandleT) -> None:
        """Close a directory."""
        del self._listings[number]

    async def list(self, number: FileHandleT, start: int, token: ReaddirToken) -> None:
        """Reply with the entries after the place `start`, as many as the kernel has room for."""
        listing = self._listings[number]
        if start == 0 or start != listing.place:  # the beginning, or rewinddir() or seekdir()
            listing.place = start
            listing.ahead.clear()
        while True:
            if not listing.ahead:
                listing.ahead.extend(await self._tree.entries(listing.node, listing.place))
            if not listing.ahead:
                return
            place, name, node = listing.ahead[0]
            inode = self._inodes.listed(node)
            attributes = self._attributes.of(inode, inode.number)
            if not pyfuse3.readdir_reply(token, FileNameT(name.encode()), attributes, place):
                self._inodes.forget(inode.number, 1)
                return
            listing.place = place
            listing.ahead.popleft()
