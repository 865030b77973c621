"""Editing `library.toml`: the list of its disks. Comments, order and the rest of the file stay as they are."""

import os
import stat
import tomllib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from vtlfs import config as configuration
from vtlfs.config import ConfigError
from vtlfs.durable import write_file


def change_disks(library: Path, *, add: Sequence[Path] = (), remove: Collection[Path] = ()) -> None:
    """Add paths to the library's `disks` and remove others, durably. Raises LibraryError; then nothing has changed.

    Paths are absolute; one that is there already, or is not, is left alone. The file keeps its mode and its owner.
    """
    file = Path(os.path.realpath(library / configuration.FILE_NAME))
    listed = configuration.load(library).disks
    gone = [place for place, path in enumerate(listed) if path in remove]
    new = [str(path) for path in add if path not in listed]
    if not gone and not new:
        return
    wanted = [f"add {path}" for path in new] + [f"remove {listed[place]}" for place in gone]
    by_hand = f"{file}: can't be changed; {', '.join(wanted)} in its `disks` by hand"
    try:
        text = _changed(file.read_bytes().decode(), gone, new)
        if text is None:
            raise ConfigError(by_hand)
        status = file.stat()
        write_file(file, text.encode(), mode=stat.S_IMODE(status.st_mode), owner=(status.st_uid, status.st_gid))
    except OSError as error:
        raise ConfigError(f"{by_hand} ({error.strerror})") from None


def _changed(text: str, gone: list[int], new: list[str]) -> str | None:
    """Return the text with other disks; None where tomlkit does not get along with it."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    for at_end in (True, False):  # behind a comment at the end of the list, tomlkit forgets a comma
        try:
            document = tomlkit.parse(text)
            section: Any = document["library"]
            for place in reversed(gone):
                del section["disks"][place]
            for path in new:
                section["disks"].insert(len(section["disks"]) if at_end else 0, path)
            changed = tomlkit.dumps(document)
            if _without_order(tomllib.loads(changed)) == _expected(text, gone, new):
                return changed
        except (TOMLKitError, ValueError, LookupError):
            continue
    return None


def _expected(text: str, gone: list[int], new: list[str]) -> dict[str, Any]:
    """Return what the changed file is to say."""
    document = tomllib.loads(text)
    left = [path for place, path in enumerate(document["library"]["disks"]) if place not in gone]
    document["library"]["disks"] = left + new
    return _without_order(document)


def _without_order(document: dict[str, Any]) -> dict[str, Any]:
    document["library"]["disks"] = sorted(document["library"]["disks"])
    return document
