"""Every command has its help, and its place in the README."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

README = Path(__file__).parents[2] / "README.md"


def commands() -> Iterator[tuple[str, click.Command]]:
    """Return all commands by the words that call them."""
    from vtlfs.cli import main

    groups = [value for value in vars(main).values() if isinstance(value, click.Group)]
    top = max(groups, key=lambda group: len(group.commands))
    waiting: list[tuple[str, click.Command]] = [("vtlfs", top)]
    while waiting:
        words, command = waiting.pop()
        yield words, command
        if isinstance(command, click.Group):
            waiting += [(f"{words} {name}", inner) for name, inner in command.commands.items() if not inner.hidden]


def test_every_command_and_option_has_its_help() -> None:
    found = dict(commands())
    assert {"vtlfs init", "vtlfs media add", "vtlfs mount", "vtlfs extract"} <= set(found)
    for words, command in found.items():
        assert command.help, f"{words} has no help"
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.help, f"{words}: {parameter.opts[0]} has no help"


def test_every_command_is_in_the_readme() -> None:
    if not README.exists():
        pytest.fail("there is no README.md yet")
    text = README.read_text()
    missing = [
        words for words, command in commands() if not isinstance(command, click.Group) and f"{words} " not in text
    ]
    assert missing == []
