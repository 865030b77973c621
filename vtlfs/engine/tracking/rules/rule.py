"""A rule: a query that finds the rows of the tracking database that break it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """`sql` finds rows that break the rule; `problem` describes one, whose columns are `{0}`, `{1}` and so on."""

    problem: str
    sql: str
