"""Fixtures of the mount tests: mounts in each I/O mode, a medium for each test, and a machine with its own fstab."""

from collections.abc import Iterator

import pytest
from machine import Machine
from mounting import OnDisks, Shared, Tape, require_fuse

SHARED_MEDIA = 400


@pytest.fixture(scope="module", params=["auto", "direct", "cached"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """A mounted library and barcodes to take."""
    require_fuse()
    library = OnDisks(tmp_path_factory.mktemp(request.param), media=f"S001..S{SHARED_MEDIA}")
    barcodes = iter(f"S{number:03d}" for number in range(1, SHARED_MEDIA + 1))
    with library.mounted(f"io={request.param}") as mounted:
        yield library, mounted, barcodes, request.param


@pytest.fixture
def tape(shared: Shared, _no_descriptor_left: None) -> Tape:
    """A fresh medium of a mount in each I/O mode."""
    library, mounted, barcodes, io = shared
    return Tape(library, mounted, next(barcodes), io)


@pytest.fixture(scope="module")
def shared_machine() -> Iterator[Machine]:
    """A machine on which `vtlfs install` has run."""
    require_fuse()
    machine = Machine()
    yield machine
    machine.end()


@pytest.fixture
def machine(shared_machine: Machine) -> Iterator[Machine]:
    """The machine, with nothing mounted and an empty fstab."""
    shared_machine.fstab()
    yield shared_machine
    shared_machine.clean()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A directory in the machine's /mnt that is the test's own."""
    return f"{request.node.name.partition('[')[0]}{abs(hash(request.node.name)) % 10000}"


@pytest.fixture
def line(machine: Machine, name: str) -> str:
    """The first two fields of a line of fstab: a library and its mount point."""
    machine.library(name)
    return f"/mnt/{name}/library /mnt/{name}/vtl"
