"""`vtlfs media list --pool`: on which medium a pool is, which one comes next and why, and what forbids the others."""

from contextlib import closing
from typing import TYPE_CHECKING

from vtlfs.cli import show
from vtlfs.cli.commands.media_list import document
from vtlfs.cli.show import Column
from vtlfs.errors import NoSuchPool
from vtlfs.model import choose_barcodes, utc_now

if TYPE_CHECKING:
    from vtlfs.engine.library import Library


def list_pool(library: "Library", name: str, words: tuple[str, ...], *, as_json: bool) -> None:
    """List the media of a pool, or some of them."""
    from vtlfs.engine.media import pools

    if name not in library.config.pools:
        raise NoSuchPool(name)
    with closing(library.tracking(read_only=True)) as tracking:
        at = utc_now()
        state, now = pools.state_of(tracking, name, library.config.pools[name], at), tracking.volumes.now(at)
        chosen = choose_barcodes(words, list(state.roles)) if words else list(state.roles)
        media, volumes = [tracking.media.get(barcode) for barcode in chosen], tracking.volumes.current()
        if as_json:
            documents = (document(one, volumes[one.barcode], tracking.volumes.holds(one.barcode), now) for one in media)
            show.as_json([one | {"pool": name, "role": state.roles[str(one["barcode"])]} for one in documents])
            return
    columns = [Column("BARCODE"), *(Column(text, figures=True) for text in ("CAPACITY", "BYTES", "FILES"))]
    rows = [
        (one.barcode, show.human(one.capacity), show.human(one.bytes), one.tape_files, state.roles[one.barcode])
        for one in media
    ]
    show.table([*columns, Column(f"IN POOL {name}")], rows)
    if state.end is not None:
        show.line(f"pool {name} is at its end: {state.end}")
    elif state.coming is None:
        show.line("no medium comes after the current one")
    elif state.coming.barcode not in state.roles:
        show.line(f"{state.coming.barcode} comes next: {state.coming.why}")
