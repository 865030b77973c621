"""Every command has a help text, and is in the README."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

README = Path(__file__).parents[2] / "README.md"


def commands() -> Iterator[tuple[str, click.Command]]:
    """Return all commands by the words that call them."""
    from vtlfs.cli.main import program

    context = click.Context(program)
    waiting: list[tuple[str, click.Command]] = [("vtlfs", program)]
    while waiting:
        words, command = waiting.pop()
        yield words, command
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None, name
                waiting += [(f"{words} {name}", inner)] if not inner.hidden else []


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
