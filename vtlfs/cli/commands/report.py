"""`vtlfs report`: what happened last night, and what needs attention, on one page."""

from pathlib import Path

import click

from vtlfs.cli import params, show
from vtlfs.model import utc_now


@click.command(
    epilog=params.example(
        "vtlfs report /srv/vtl",
        "vtlfs report /srv/vtl --since 12h --json",
        "vtlfs report /srv/vtl --markdown | mail -s 'vtl: last night' root",
    )
)
@params.library_argument
@click.option(
    "--since",
    metavar="TIME",
    type=params.since,
    help="Since when: a time, a date, or a duration before now. Default: 24 hours ago, or yesterday at 18:00 if that is"
    " earlier.",
)
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown, with all hosts and failures.")
@params.json_option
def report(library: Path, since: str | None, as_markdown: bool, as_json: bool) -> None:
    """Say what happened last night, and what needs attention, each with the command that mends it.

    Streams by host, failures with their reasons, what is new, when the disks and media will be full, snapshots, the
    last verification, copies of the tracking database. Times are local; in --json they are UTC. The library need not be
    mounted. Does not wait for a disk that hangs.

    Exit status: as that of `vtlfs status`: 0 if nothing needs attention but what is noted; 4 if the library is
    degraded, streams failed, or something else needs to be done; 3 if the library has failed.
    """
    from vtlfs.engine.library import Library
    from vtlfs.errors import UsageError
    from vtlfs.report import page
    from vtlfs.report.report import make
    from vtlfs.report.words import default_since

    if as_json and as_markdown:
        raise UsageError("--json and --markdown are two forms of the report; choose one")
    at = utc_now()
    made = make(Library.open(library), since or default_since(at), at)
    if as_json:
        show.as_json(made.as_json())
    else:
        for line in page.markdown(made) if as_markdown else page.text(made):
            show.line(line)
    click.get_current_context().exit(made.condition.status)
