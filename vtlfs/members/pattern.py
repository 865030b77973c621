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
ENDS = "\x01\x01"  # what stands behind each path in the index of three characters; before it stands a slash


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern, compiled. `literals`: texts that `/PATH` and ENDS have in it for each path that matches.

    `longest`: the longest text that such a path has in it, as it is written; empty where capital letters do not matter.
    """

    literals: tuple[str, ...]
    longest: str
    _regex: re.Pattern[str]

    def matches(self, path: str) -> bool:
        """Tell whether a path of an archive is like the pattern."""
        return self._regex.search(anchored(path)) is not None

    @property
    def grams(self) -> list[str]:
        """Which three characters in a row the texts have, those at their ends included."""
        found = {text[place : place + GRAM]: None for text in self.literals for place in range(len(text) - GRAM + 1)}
        return list(found)

    @property
    def short(self) -> list[str]:
        """The texts that are shorter than three characters, in small letters where that is certain."""
        texts = (text.lower() for text in self.literals if len(text) < GRAM)
        return [text for text in texts if text.isascii() or text.upper() == text]


def compile_pattern(text: str, *, ignore_case: bool = False) -> Pattern:
    """Return the pattern that a user has given."""
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    whole = text
    if not WILDCARDS.search(text):
        regex = re.escape(text)
    else:
        body = translate(text)
        regex = f"\\A{body}" if text.startswith("/") else f"/(?!.*/){body}" if "/" not in text else f"/{body}"
        whole = f"{'' if text.startswith('/') else '/'}{text}{ENDS}"
    literals = tuple(piece for piece in _NOT_LITERAL.split(whole) if piece.strip("/" + ENDS))
    written = [piece.lstrip("/") for piece in _NOT_LITERAL.split(text)]
    return Pattern(literals, "" if ignore_case else max(written, key=len), re.compile(regex, flags))


def anchored(path: str) -> str:
    """Return a path of an archive as one from the root."""
    while path.startswith(("./", "/")):
        path = path[2:] if path[0] == "." else path[1:]
    return f"/{path}"
