"""The file /changer of a mount, through which users who may not open the library use its changer.

A program opens it for reading and writing, writes one request (see `engine/media/changer.py`), and reads the answer, a
JSON object. Used in the trio loop of a mount.
"""

from dataclasses import dataclass

from vtlfs.engine.engine import Engine
from vtlfs.engine.media import changer
from vtlfs.engine.media.lifecycle import Order
from vtlfs.errors import ChangerRefused, NoSuchMedium
from vtlfs.model import Actor, Opener, utc_now


@dataclass(slots=True)
class ChangerHandle:
    """An open /changer: the answer to the last request; before the first, what is where."""

    engine: Engine
    opener: Opener
    text: bytes = b""

    async def ask(self, request: bytes) -> None:
        """Do what a request says, and keep the answer. Raises UsageError, and what the tracking database raises."""
        self.text = changer.answer(await self._answer(changer.read_request(request)))

    async def _answer(self, request: changer.Request) -> dict[str, object]:
        engine, drives = self.engine, self.engine.library.config.drives
        if request == changer.ELEMENTS:
            there = await engine.catalogue.read(lambda tracking: changer.elements(tracking, drives))
            return {"elements": changer.as_document(there)}
        order = Order(Actor(self.opener.uid, self.opener.host, self.opener.program), utc_now())
        try:
            change = await engine.change(lambda tracking: changer.perform(tracking, drives, request, order))
        except (ChangerRefused, NoSuchMedium) as error:
            return {"refused": str(error)}
        if change.event == "moved":
            await engine.health.keep(change.medium.barcode)
        return {}

    async def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the answer."""
        return self.text[offset : offset + size]
