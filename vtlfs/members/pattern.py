"""Patterns of paths, as `vtlfs find` takes them. Pure.

A path is matched as if it began at the root, whether the archive names it `etc/fstab`, `./etc/fstab` or `/etc/fstab`.

- Without `*`, `?` and `[`: what contains the text, as with locate(1).
- With one of these and without a slash: paths whose last component is like the pattern, as with find(1) -name.
- With a slash: paths that end like the pattern, from the beginning of a component on; where the pattern begins with a
  slash, whole paths. `*` stands for slashes as well.
"""

import re
from dataclasses import dataclass
from fnmatch import translate

WILDCARDS = re.compile(r"[*?\[]")
_NOT_LITERAL = re.compile(r"\[!?\]?[^\]]*\]|[*?\[]|[\ud800-\udfff]")  # ... nor in the index of three characters
GRAM = 3


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern, compiled. `literals`: texts that each path that matches has in it, of three characters or more.

    `longest`: the longest such text of any length, as it is written; empty where capital letters do not matter.
    """

    literals: tuple[str, ...]
    longest: str
    _regex: re.Pattern[str]

    def matches(self, path: str) -> bool:
        """Tell whether a path of an archive is like the pattern."""
        return self._regex.search(anchored(path)) is not None


def compile_pattern(text: str, *, ignore_case: bool = False) -> Pattern:
    """Return the pattern that a user has given."""
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    if not WILDCARDS.search(text):
        regex = re.escape(text)
    else:
        body = translate(text)
        regex = f"\\A{body}" if text.startswith("/") else f"/(?!.*/){body}" if "/" not in text else f"/{body}"
    pieces = [piece.lstrip("/") for piece in _NOT_LITERAL.split(text)]
    literals = tuple(piece for piece in pieces if len(piece) >= GRAM)
    return Pattern(literals, "" if ignore_case else max(pieces, key=len), re.compile(regex, flags))


def anchored(path: str) -> str:
    """Return a path of an archive as one from the root."""
    while path.startswith(("./", "/")):
        path = path[2:] if path[0] == "." else path[1:]
    return f"/{path}"


def grams(literals: tuple[str, ...]) -> list[str]:
    """Return which three characters in a row all paths have that have these texts in them."""
    found = {text[place : place + GRAM]: None for text in literals for place in range(len(text) - GRAM + 1)}
    return list(found)
