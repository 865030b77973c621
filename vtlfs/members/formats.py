"""What a stream begins with: compressions that are unpacked, and formats that are only named. Pure.

Bacula, dump, xfsdump and others have formats of their own that no well-kept library reads, so that their streams are
named, and not indexed.
"""

ENOUGH = 4096  # bytes of a beginning that tell its format

# By the filters of libarchive: those that it has built in everywhere. It would start a program for others.
_COMPRESSIONS = {
    "gzip": (0, b"\x1f\x8b\x08"),
    "zstd": (0, b"\x28\xb5\x2f\xfd"),
    "xz": (0, b"\xfd7zXZ\x00"),
    "bzip2": (0, b"BZh"),
    "lz4": (0, b"\x04\x22\x4d\x18"),
}
_SKIPPABLE = tuple(bytes([byte]) + b"\x2a\x4d\x18" for byte in range(0x50, 0x60))  # frames of zstd, and of lz4

_ENCRYPTED = "it is encrypted: "
_FOREIGN = (
    (0, b"age-encryption.org/", _ENCRYPTED + "age"),
    (0, b"-----BEGIN AGE ENCRYPTED FILE", _ENCRYPTED + "age"),
    (0, b"Salted__", _ENCRYPTED + "openssl enc"),
    (0, b"-----BEGIN PGP MESSAGE", _ENCRYPTED + "OpenPGP"),
    (0, b"\x85", _ENCRYPTED + "OpenPGP"),
    (0, b"\x84", _ENCRYPTED + "OpenPGP"),
    (0, b"\x8c\x0d", _ENCRYPTED + "OpenPGP"),
    (0, b"\xc1\xc0", _ENCRYPTED + "OpenPGP"),
    (0, b"\xc3\x0d", _ENCRYPTED + "OpenPGP"),
    (0, b"LUKS\xba\xbe", _ENCRYPTED + "LUKS"),
    (12, b"BB02", "it is a Bacula volume, which only Bacula reads (`bls`)"),
    (12, b"BB01", "it is a Bacula volume, which only Bacula reads (`bls`)"),
    (24, b"\x6c\xea\x00\x00", "it is a dump, which only restore(8) reads"),
    (24, b"\x6b\xea\x00\x00", "it is a dump, which only restore(8) reads"),
    (24, b"\x00\x00\xea\x6c", "it is a dump, which only restore(8) reads"),
    (0, b"xFSdump0", "it is an xfsdump, which only xfsrestore reads"),
    (0, b"PGDMP", "it is a dump of pg_dump, which pg_restore reads"),
    (0, b"btrfs-stream\0", "it is a stream of btrfs send"),
    (8, b"\xac\xcb\xba\xf5\x02\x00\x00\x00", "it is a stream of zfs send"),
    (0, b"\x00\x00\x00\x7b", "it is an archive of dar, which only dar reads"),
    (0, b"PK\x03\x04", "it is a zip archive, which can't be read as a stream"),
    (0, b"7z\xbc\xaf\x27\x1c", "it is a 7z archive, which can't be read as a stream"),
)
UNKNOWN = "it begins with none of the formats that are read"


def compression_of(beginning: bytes) -> str | None:
    """Return what a stream is compressed with, by the name of libarchive's filter; None: with nothing that is read."""
    if beginning[:4] in _SKIPPABLE:
        return "zstd"
    return next((name for name, (at, magic) in _COMPRESSIONS.items() if beginning[at : at + len(magic)] == magic), None)


def why_unknown(beginning: bytes) -> str | None:
    """Return which format, that is not read, a stream has, in a clause; None where it is none of those known here."""
    return next((why for at, magic, why in _FOREIGN if why and beginning[at : at + len(magic)] == magic), None)
