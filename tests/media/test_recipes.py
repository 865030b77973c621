"""The recipes of docs/media.md are run as they stand there, in a library and with mount points of the test's own."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from mounting import PROJECT, OnDisks, require_fuse

RECIPES = (PROJECT / "docs" / "media.md").read_text().partition("\n## Recipes\n")[2]
NAMES = re.findall(r"^### (.*)$", RECIPES, re.MULTILINE)


def blocks(recipe: str, language: str) -> list[str]:
    """Return the blocks of code of a recipe."""
    text = re.split(r"^### ", RECIPES.partition(f"### {recipe}\n")[2], flags=re.MULTILINE)[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_every_recipe_has_commands() -> None:
    assert len(NAMES) == 4
    assert all(blocks(name, "sh") for name in NAMES)


@pytest.mark.usefixtures("_no_descriptor_left")
@pytest.mark.parametrize("name", NAMES)
def test_recipe_works_as_it_stands(name: str, tmp_path: Path) -> None:
    require_fuse()
    library = OnDisks(tmp_path, media="OTHER")
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    with open(library.path / "library.toml", "a") as file:
        file.writelines(blocks(name, "toml"))
    script = "\n".join(blocks(name, "sh"))
    for there, here in (("/srv/vtl", library.path), ("/mnt/vtl", mountpoint), ("/mnt/carried", tmp_path / "carried")):
        script = script.replace(there, str(here))
    program = f'vtlfs() {{ {shlex.quote(sys.executable)} -m vtlfs "$@"; }}\nset -e -o pipefail\n'
    program += re.sub(r"^! (.*)$", r"if \1; then exit 9; fi", script, flags=re.MULTILINE)
    try:
        done = subprocess.run(
            ["bash", "-c", program],
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{program}\n{done.stdout}{done.stderr}"
    finally:
        if os.path.ismount(mountpoint):
            subprocess.run(["umount", "-l", mountpoint], check=True)
    library.check()
