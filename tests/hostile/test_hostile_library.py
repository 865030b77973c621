"""Fuzzed files of a library: every command does its work, or ends with an error of one line."""

import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tampering import (
    VALUES,
    Tamper,
    members,
    mutated,
    positions,
    retell,
)

from vtlfs.disks import records

ROUNDS = int(os.environ.get("VTLFS_FUZZ", "1"))  # more of them find more


def often(name: str, tamper: Tamper, times: int) -> dict[str, Tamper]:
    """Return a list of the same mutation for so many seeds."""
    return {f"{name}{number}": tamper for number in range(times * ROUNDS)}


# --- library.toml ---------------------------------------------------------------------------------------------------

TOMLS = {
    "deep": "a = " + "[" * 5000,
    "deeper": "[library]\nuuid = " + "{a=" * 3000,
    "dotted": ".".join("a" * 3000) + " = 1",
    "huge": "[library]\ndrives = " + "9" * 100_000,
    "float": "[tracking]\ncheckpoint = 1e999",
    "seconds": '[tracking]\ncheckpoint = "' + "9" * 400 + 'd"',
    "every": '[snapshots]\nevery = "999999999999999999d"',
    "size": '[io]\nlow_space = 99999999999999999999999999999',
    "null": 'x = "\\u0000"',
    "bom": "\ufeff[library]",
    "mebibytes": "x = 1 # " + "y" * 2_000_000,
    "array": "[[library]]\nuuid = 'x'",
    "key": "[library]\n\"a\\u001bb\\n\" = 1",
}  # fmt: skip


def replace(**new: str) -> Tamper:
    """Return a mutation that gives keys of library.toml other values."""

    def tamper(place: Path, chance: random.Random) -> None:
        file = place / "library" / "library.toml"
        lines = file.read_text().splitlines()
        for key, value in new.items():
            lines = [f"{key} = {value}" if line.startswith(f"{key} =") else line for line in lines]
        file.write_text("\n".join(lines))

    return tamper


def whole(text: str) -> Tamper:
    return lambda place, chance: (place / "library" / "library.toml").write_text(text)


def bytes_of(name: str) -> Tamper:
    """Return a mutation that changes bytes of a file."""

    def tamper(place: Path, chance: random.Random) -> None:
        (file,) = place.glob(name)
        file.write_bytes(mutated(file.read_bytes(), chance))

    return tamper


def test_library_toml(survives: Callable[[dict[str, Tamper]], None]) -> None:
    survives(
        {name: whole(text) for name, text in TOMLS.items()}
        | {
            "disks": replace(disks=r'["../disk0", "a\u0000b"]'),
            "long": replace(disks='["../disk0", "' + "x" * 300 + '"]'),
            "deepdisk": replace(disks='["../disk0", "' + "x/" * 3000 + '"]'),
            "etc": replace(disks='["../disk0", "/etc/passwd"]'),
            "uuid": replace(uuid=r'"\u001b[2J\n"'),
            "checkpoint": replace(checkpoint='"' + "9" * 400 + 'd"'),
            "drives": replace(drives="1000"),
            "direct": replace(low_space=str(2**63)),
        }
        | often("mutated", bytes_of("library/library.toml"), 6)
    )


# --- the label ------------------------------------------------------------------------------------------------------


def label(change: Callable[[dict[str, Any]], object] | bytes) -> Tamper:
    def tamper(place: Path, chance: random.Random) -> None:
        file = place / "disk1" / "vtlfs-disk.json"
        if isinstance(change, bytes):
            file.write_bytes(change)
        else:
            document = json.loads(file.read_text())
            change(document)
            file.write_text(json.dumps(document))

    return tamper


def some_value(document: dict[str, Any], chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 3))):
        document[chance.choice([*document])] = chance.choice(VALUES)


def any_label(place: Path, chance: random.Random) -> None:
    label(lambda document: some_value(document, chance))(place, chance)


def fifo(name: str) -> Tamper:
    def tamper(place: Path, chance: random.Random) -> None:
        (file,) = place.glob(name)
        file.unlink()
        os.mkfifo(file)

    return tamper


def test_label(survives: Callable[[dict[str, Tamper]], None]) -> None:
    survives(
        {
            "deep": label(b"[" * 100_000),
            "object": label(b'{"a":' * 100_000),
            "digits": label(b'{"format": ' + b"9" * 10_000 + b"}"),
            "large": label(b" " * 2_000_000 + b"{}"),
            "number": label(lambda document: document.update(number=10**300)),
            "other": label(lambda document: document.update(library="\x1b[2J\ud800")),
            "far": label(lambda document: document.update(number=2**40)),
            "fifo": fifo("disk1/vtlfs-disk.json"),
        }
        | often("value", any_label, 4)
        | often("mutated", bytes_of("disk0/vtlfs-disk.json"), 4)
    )


# --- member files ---------------------------------------------------------------------------------------------------


def any_member(place: Path, chance: random.Random) -> None:
    for file in chance.sample(members(place), 3):
        file.write_bytes(mutated(file.read_bytes(), chance))


def any_record(place: Path, chance: random.Random) -> None:
    """Give records impossible content, and valid checksums."""
    for file in members(place):
        if chance.random() < 0.7:
            retell(file, chance.choice([None, *positions(file)]), lambda document: some_value(document, chance))


def lose_database(then: Tamper) -> Tamper:
    """Return a mutation that removes everything but the member files, so that a rebuild depends on them."""

    def tamper(place: Path, chance: random.Random) -> None:
        for disk in place.glob("disk?"):
            shutil.rmtree(disk / "tracking", ignore_errors=True)
        then(place, chance)

    return tamper


def says(*, of_extents: bool = False, **said: object) -> Tamper:
    """Return a mutation that changes the header, or the first extent's record, of all member files."""

    def tamper(place: Path, chance: random.Random) -> None:
        for file in members(place):
            where: list[int | None] = [None]
            if of_extents:
                where = [*positions(file)[:1]]
            for position in where:
                retell(file, position, lambda document: document.update(said))

    return lose_database(tamper)


def raw_record(text: bytes) -> Tamper:
    """Return a mutation that writes a text as the JSON of a record with a valid checksum."""
    from blake3 import blake3

    def tamper(place: Path, chance: random.Random) -> None:
        digest = blake3(records._KEYED.pack(records.VERSION, len(text), 9) + text).digest()
        record = records._HEAD.pack(records.MAGIC, records.VERSION, len(text), 9, digest) + text
        for file in members(place)[::2]:
            data = bytearray(file.read_bytes())
            data[2048 : 2048 + len(record)] = record
            data[4096 : 4096 + len(record)] = record
            file.write_bytes(data)

    return tamper


def test_member_files(survives: Callable[[dict[str, Tamper]], None]) -> None:
    survives(
        {
            "deep": raw_record(b"[" * 1984),
            "object": raw_record(b'{"a":' * 396),
            "digits": raw_record(b'{"session":' + b"9" * 1900 + b"}"),
            "medium": says(medium="../../canary"),
            "offset": says(of_extents=True, offset=2**63),
            "negative": says(of_extents=True, offset=-1, bytes=-1, stored=-1),
            "far": says(of_extents=True, offset=2**59),
            "stripe": says(of_extents=True, stripe=2**63, place=2**31),
            "position": says(of_extents=True, position=2**62),
            "members": says(of_extents=True, members=[[0, 2**62, "none", 2**62, "0" * 64]] * 30),
            "codec": says(of_extents=True, codec="zstd"),
            "time": says(opened_at="2026-99-99T99:99:99.999999Z", released_at="9999-99-99T99:99:99.999999Z"),
            "indic": says(opened_at="२०२६-01-01T00:00:00.000000Z"),
            "start": says(start=2**62, tape_file=2**40),
            "bytes": says(bytes=2**62),
            "drive": says(drive=1000),
            "parity": says(parity=1000),
            "volume": says(volume=-1),
            "volumes": says(volume=100_000),
            "retained": says(retain="compliance", retain_until="9999-12-31T23:59:59.999999Z"),
            "retain": says(retain="for ever", retain_until="\x1b[2J"),
            "rule": says(retain_mode="worm", retain_seconds=-5),
            "released": says(opened_at="9999-12-31T23:59:59.999999Z", released_at="9999-12-31T23:59:59.999999Z"),
            "host": says(host="\x1b[2J\n\0\ud800" * 20, program="\x1b]0;x\x07"),
            "requests": says(requests=2**63 - 1),
            "unitsize": says(stripe_unit=64 << 20),
        }
        | often("value", any_record, 4)
        | often("alone", lose_database(any_record), 4)
        | often("mutated", any_member, 3)
    )


# --- the cartridge memory -------------------------------------------------------------------------------------------


def remembers(content: Callable[[dict[str, Any], random.Random], bytes]) -> Tamper:
    """Return what changes all that disks remember of media, and has the tracking database and its copies be lost."""

    def tamper(place: Path, chance: random.Random) -> None:
        for file in place.glob("disk?/cartridges/*.cartridge"):
            document = records.decode_file(file.read_bytes())
            assert document is not None
            file.write_bytes(content(document, chance))

    return lose_database(tamper)


def tells(**new: Any) -> Tamper:
    return remembers(lambda document, chance: records.encode_file(document | {"commits": 2**60} | new, 1 << 20))


def some_memory(document: dict[str, Any], chance: random.Random) -> bytes:
    some_value(document, chance)
    return records.encode_file(document, 1 << 20)


def test_cartridge_memory(survives: Callable[[dict[str, Tamper]], None]) -> None:
    survives(
        {
            "volume": tells(volume=100_000),
            "capacity": tells(capacity=1),
            "holds": tells(holds=[{"name": "\x1b[2J", "reason": "\n", "placed_at": "x", "uid": -1, "host": ""}]),
            "manyholds": tells(
                holds=[
                    {
                        "name": f"{number}",
                        "reason": "\x1b",
                        "placed_at": "2026-01-01T00:00:00.000000Z",
                        "uid": 0,
                        "host": "",
                    }
                    for number in range(5000)
                ]
            ),
            "removed": tells(state="removed", added_at="9999-12-31T23:59:59.999999Z"),
            "event": tells(event=2**62, commits=2**62),
            "until": tells(retain_mode="compliance", retain_until="9999-12-31T23:59:59.999999Z"),
            "worm": tells(retain_mode="worm", retain_seconds=None, retain_until="2999-01-01T00:00:00.000000Z"),
            "other": tells(library="another", barcode="../../canary"),
            "huge": remembers(lambda document, chance: b"\0" * (2 << 20)),
        }
        | often("value", remembers(some_memory), 4)
        | often(
            "mutated", remembers(lambda document, chance: mutated(records.encode_file(document, 1 << 20), chance)), 3
        )
    )


# --- the tracking database ------------------------------------------------------------------------------------------


def any_page(name: str) -> Tamper:
    """Return a mutation that flips bits in a database."""

    def tamper(place: Path, chance: random.Random) -> None:
        for file in place.glob(name):
            data = bytearray(file.read_bytes())
            for _ in range(chance.choice((1, 4, 40, 400))):
                at = chance.randrange(chance.choice((100, len(data), len(data))))
                data[at] ^= 1 << chance.randrange(8)
            file.write_bytes(data)

    return tamper


def sql(script: str, name: str = "library/tracking.db") -> Tamper:
    """Return a mutation that runs SQL statements on a database, without its checks."""

    def tamper(place: Path, chance: random.Random) -> None:
        for file in place.glob(name):
            with closing(sqlite3.connect(file, isolation_level=None)) as database:
                database.execute("PRAGMA writable_schema = ON")
                database.execute("PRAGMA ignore_check_constraints = ON")
                database.executescript(script)

    return tamper


LOOSE = "UPDATE sqlite_master SET sql = replace(sql, 'STRICT', '') WHERE type = 'table';"
STRICT_AGAIN = ""
SCRIPTS = {
    "empty": "",
    "tables": "CREATE TABLE x (y); PRAGMA user_version = 99; PRAGMA application_id = 7",
    "view": "DROP TRIGGER session_counted; ALTER TABLE session RENAME TO s; CREATE VIEW session AS SELECT * FROM s",
    "recursive": "DROP TABLE verification; CREATE VIEW verification AS WITH RECURSIVE c(id) AS (SELECT 1 UNION ALL"
    " SELECT id + 1 FROM c) SELECT id, '' AS started_at, '' AS ended_at, NULL AS media, '{}' AS progress, 0 AS bytes,"
    " 0 AS damaged, 0 AS unreadable, 0 AS metadata FROM c",
    "trigger": "CREATE TRIGGER t AFTER UPDATE ON library BEGIN INSERT INTO medium (barcode, added_at)"
    " SELECT 'X' || random(), '' FROM session; END",
    "cycle": "PRAGMA recursive_triggers = ON; CREATE TRIGGER t AFTER INSERT ON snapshot BEGIN INSERT INTO snapshot"
    " SELECT id + 1, name, taken_at, scheduled, next_session, media, sessions, open_sessions, tape_files, bytes"
    " FROM snapshot; END",
    "nothing": "DELETE FROM library",
    "twice": "INSERT INTO library SELECT * FROM library",
    "column": "ALTER TABLE session DROP COLUMN program",
    "barcode": "PRAGMA foreign_keys = OFF; UPDATE medium SET barcode = '../../canary' WHERE barcode = 'T1';"
    " UPDATE tape_file SET medium = '../../canary' WHERE medium = 'T1'",
    "dots": "UPDATE medium SET barcode = '..' WHERE barcode = 'T9'",
    "null": "UPDATE medium SET barcode = char(27) || '[2J' || char(0) WHERE barcode = 'T9'",
    "blob": "UPDATE session SET program = CAST(x'ff1b5b324a' AS TEXT), host = CAST(x'80' AS TEXT)",
    "negative": "UPDATE tape_file SET bytes = -5; UPDATE medium SET bytes = -5; UPDATE session SET bytes = -1",
    "huge": "UPDATE medium SET bytes = 9223372036854775807, capacity = 9223372036854775807;"
    " UPDATE tape_file SET bytes = 9223372036854775807",
    "disk": "UPDATE extent SET disk = 99",
    "minus": "UPDATE extent SET disk = -1, position = -3; UPDATE parity SET disk = -1, position = -3",
    "position": "UPDATE extent SET position = 1 << 62",
    "size": "UPDATE extent SET bytes = 1 << 62",
    "stored": "UPDATE extent SET stored = 1 << 62; UPDATE parity SET stored = 1 << 62",
    "offsets": "UPDATE extent SET offset = offset + (1 << 62)",
    "stripes": "UPDATE extent SET stripe = 1 << 62, place = -1; UPDATE parity SET place = 99",
    "codec": "UPDATE extent SET codec = 'zstd'",
    "hash": "UPDATE extent SET blake3 = x''; UPDATE parity SET blake3 = x''",
    "zero": "UPDATE session SET stripe_unit = 0",
    "minusunit": "UPDATE session SET stripe_unit = -4096",
    "bigunit": "UPDATE session SET stripe_unit = 1 << 62",
    "garbage": "UPDATE session SET disks = '{\"a\": ['",
    "object": "UPDATE session SET disks = '{\"a\": 1}'",
    "texts": "UPDATE session SET disks = '[\"a\", null, 1e999, -1]'",
    "deep": "UPDATE session SET disks = replace(hex(zeroblob(50000)), '00', '[')",
    "states": "UPDATE session SET state = 'x', access = 'y'",
    "times": "UPDATE session SET opened_at = 'x', released_at = 'y'; UPDATE medium SET added_at = '', written_at = 'z';"
    " UPDATE snapshot SET taken_at = ''; UPDATE tape_file SET released_at = ''",
    "ids": "PRAGMA foreign_keys = OFF; UPDATE session SET id = -id",
    "far": "PRAGMA foreign_keys = OFF; UPDATE session SET id = id + (1 << 61);"
    " UPDATE tape_file SET session = session + (1 << 61)",
    "next": "UPDATE library SET next_session = 9223372036854775807, epoch = 9223372036854775807",
    "back": "UPDATE library SET next_session = -5, epoch = -5",
    "counters": "UPDATE library SET media = -1, sessions = -1, tape_files = -1, bytes = -1",
    "drives": "DELETE FROM drive; UPDATE disk SET number = number + 70",
    "manydisks": "INSERT INTO disk (number, uuid, path, added_at) VALUES (1 << 40, 'x', '/', '')",
    "verification": "UPDATE verification SET progress = 'x', media = '[', ended_at = NULL",
    "progress": 'UPDATE verification SET progress = \'{"0": [9223372036854775807, -1], "x": 3}\', ended_at = NULL',
    "media": "UPDATE verification SET media = '[1, {}, \"../x\"]', ended_at = NULL",
    "ordinals": "UPDATE tape_file SET ordinal = 9223372036854775807 - ordinal; UPDATE verification SET ended_at = NULL",
    "before": "UPDATE tape_file SET ordinal = -ordinal; UPDATE library SET announced = 9223372036854775807",
    "last": "UPDATE verification SET last = -5, ended_at = NULL; UPDATE library SET announced = -1",
    "unfinished": "UPDATE verification SET unfinished = '[[0, 99], [0, 1], [7, 1], [1, -1]]', ended_at = NULL",
    "unread": "UPDATE verification SET unfinished = '[[0, 1], 7, {}]', ended_at = NULL",
    "words": LOOSE + "PRAGMA schema_version = 999; UPDATE library SET announced = 'x'; UPDATE tape_file SET ordinal ="
    " 'y' || ordinal; UPDATE verification SET last = 'z', bytes = 'b', ended_at = NULL",
    "copy": "DELETE FROM copy",
    "loaded": "UPDATE drive SET loaded = '../../../../etc/passwd', loaded_at = 'x'",
    "mounts": "UPDATE mount SET id = id + (1 << 62), state = 'mounted', pid = -1, uid = -1, mountpoint = '/etc'",
    "snapshots": "UPDATE snapshot SET id = -id, name = char(27) || id, media = -1",
    "loose": LOOSE,
    "untyped": LOOSE
    + "PRAGMA schema_version = 999; UPDATE session SET bytes = 'abc', id = id, drive = x'00', tape_file = 1.5;"
    " UPDATE medium SET bytes = 'abc'; UPDATE library SET sessions = 'x', epoch = 'y'",
    "migrations": "DELETE FROM _sqlite_migrations",
    "latest": "UPDATE library SET latest = 'soon'",
    "lives": "UPDATE volume SET retain_until = 'x', retain_seconds = 1 << 62, retain_mode = 'worm', begun = -1",
    "newer": "UPDATE _sqlite_migrations SET name = 'later' WHERE name = 'few_of_many'",
    "history": "UPDATE session_history SET since = -1, until = 1 << 62, state = 'x', disks = 'y'",
}


def test_tracking_database(survives: Callable[[dict[str, Tamper]], None]) -> None:
    survives(
        {name: sql(script) for name, script in SCRIPTS.items()} | often("flipped", any_page("library/tracking.db"), 8)
    )


def test_copies_of_the_tracking_database(survives: Callable[[dict[str, Tamper]], None]) -> None:
    copies = "disk?/tracking/*.db"
    some = ("words", "ordinals", "before",
            "view", "trigger", "barcode", "disk", "garbage", "texts", "states", "times", "untyped", "mounts", "next",
            "latest", "lives",
            "far", "bigunit", "zero", "copy", "manydisks", "blob", "huge", "loose", "recursive")  # fmt: skip
    survives({name: sql(SCRIPTS[name], copies) for name in some} | often("flipped", any_page(copies), 4))
