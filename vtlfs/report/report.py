"""A report on a library: its condition, what needs attention, and what happened since a time."""

from contextlib import closing
from dataclasses import dataclass

from vtlfs.engine.condition import Condition
from vtlfs.engine.library import Library
from vtlfs.report import looking
from vtlfs.report.attention import Attention, attention, condition_of
from vtlfs.report.looking import Look
from vtlfs.report.night import LastNight, last_night


@dataclass(frozen=True, slots=True)
class Report:
    """See the module. `look`: at the library just now."""

    look: Look
    night: LastNight
    attention: tuple[Attention, ...]

    @property
    def condition(self) -> Condition:
        """How the library is: the worst of all that needs attention."""
        return condition_of(self.attention)

    def as_json(self) -> dict[str, object]:
        """Return the report as a JSON object."""
        library = self.look.library
        return {
            "library": str(library.path),
            "uuid": library.config.uuid,
            "condition": str(self.condition),
            "attention": [one.as_json() for one in self.attention],
            **self.night.as_json(),
            "space": self.look.space,
            "use": self.look.use.as_json(),
        }


def make(library: Library, since: str, at: str) -> Report:
    """Look at a library, and return the report on what happened since a time. `at`: the present. May block."""
    probes = looking.probe_disks(library)
    with closing(library.tracking(read_only=True)) as tracking:
        look = looking.examine(library, tracking, probes, at)
        night = last_night(tracking, since, at)
    found = attention(look.facts, night, library.config, forecast=look.use.forecast, pools=look.pools)
    return Report(look, night, tuple(found))
