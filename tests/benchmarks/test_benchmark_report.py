"""The report of the benchmarks, on made-up measurements."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import plot, report
from benchmarks.cases import ALONE, CASES, PARITY, Case, Sizes
from benchmarks.conditions import conditions, file_system, headline
from benchmarks.measuring import Sample
from benchmarks.peers import NOTHING, PROMISING, THE_DISKS, Peer, Place
from benchmarks.slow_disks import ALL_QUICK
from benchmarks.summary import Results, summarize
from benchmarks.targets import TARGETS, Memory, Rate, Slowest, Time, Verdict, judge

MIB = 1 << 20
PEERS = (
    *("plain directory", "mergerfs off", "mergerfs direct", "mergerfs writeback", "bindfs", "btrfs RAID 0"),
    *("passthrough_hp cached", "passthrough_hp direct"),
    *(THE_DISKS, PROMISING, NOTHING, "vtlfs"),
)
MORE = (ALL_QUICK, ALONE, *PARITY)  # vtlfs itself, in some cases


def never(place: Place, peer: Peer, sizes: Sizes) -> Sample:
    """Stand for a case that was measured already."""
    raise NotImplementedError


WRITE = Case("write 10 KiB", never)
STREAMS = Case("8 streams 10 KiB", never)
TAR = Case("tar of a tree", never, unit="s")


def at(*rates: float, streams: tuple[float, ...] = ()) -> list[Sample]:
    """Return runs of 1 GB at so many MB/s."""
    return [Sample(10**9, 1000 / rate, 1.5, 0.5, 50 * MIB, streams) for rate in rates]


def taking(*seconds: float) -> list[Sample]:
    """Return runs of 1 GB that took so long."""
    return [Sample(10**9, each, 1.5) for each in seconds]


def verdicts(results: Results) -> list[str]:
    """Return the verdicts on the targets."""
    return [str(verdict) for verdict in judge(summarize(results))]


def everything() -> Results:
    """Return a run of all cases with all peers."""
    return {case: {peer: at(1000, 1234.5, streams=(1e6, 2e6)) for peer in (*PEERS, *MORE)} for case in CASES}


def test_a_target_is_met_by_the_medians() -> None:
    results = {WRITE: {"mergerfs off": at(190, 200, 900), "vtlfs": at(10, 804, 820)}}
    assert verdicts(results) == ["write 10 KiB: 4.02 x mergerfs off (>= 2.0): met"]


def test_a_target_that_is_missed_by_a_hair_does_not_look_as_if_it_were_met() -> None:
    results = {WRITE: {"mergerfs off": at(200), "plain directory": at(1000), "vtlfs": at(399.8)}}
    assert verdicts(results) == [
        "write 10 KiB: 1.999 x mergerfs off (>= 2.0): missed",
        "write 10 KiB: 0.40 x plain directory (>= 0.8): missed",
    ]


def test_the_best_mode_is_the_one_with_the_highest_median_in_this_case() -> None:
    modes = {"mergerfs off": at(200, 210, 5000), "mergerfs direct": at(250, 260), "mergerfs writeback": at(100)}
    assert verdicts({WRITE: modes | {"vtlfs": at(510)}}) == [
        "write 10 KiB: 2.00 x the best mergerfs (direct) (>= 2.0): met"
    ]


def test_the_best_mode_is_the_quickest_where_seconds_are_measured() -> None:
    modes = {"mergerfs off": taking(8), "mergerfs direct": taking(4)}
    found = summarize({TAR: modes | {"vtlfs": taking(5)}})
    assert judge(found, [Rate(TAR.name, "mergerfs", 1.0)]) == [
        Verdict(TAR.name, 0.8, "the best mergerfs (direct)", ">=", 1.0)
    ]


def test_time_is_compared_with_time() -> None:
    results = {TAR: {"plain directory": taking(10), "vtlfs": taking(10.5, 10.7, 12)}}
    assert verdicts(results) == ["tar of a tree: 1.07 x the time of plain directory (<= 1.1): met"]
    results[TAR]["vtlfs"] = taking(12)
    assert verdicts(results) == ["tar of a tree: 1.20 x the time of plain directory (<= 1.1): missed"]


def test_of_short_sessions_the_rate_is_compared_though_their_time_is_measured() -> None:
    sessions = Case("short sessions", never, unit="s")
    results = {sessions: {"plain directory": taking(1), "vtlfs": taking(2.5)}}
    assert verdicts(results) == ["short sessions: 0.40 x plain directory (>= 0.5): missed"]


def test_a_bound_is_a_multiple_of_the_same() -> None:
    large, sessions = Case("write 1 MiB", never), Case("short sessions", never, unit="s")
    results = {
        large: {"mergerfs off": at(500), "mergerfs direct": at(750), THE_DISKS: at(840), "vtlfs": at(700)},
        sessions: {"plain directory": taking(1), NOTHING: taking(4), "vtlfs": taking(8)},
    }
    found = judge(summarize(results))
    wanted: list[tuple[str, str, object]] = [
        ("write 1 MiB", "the best mergerfs (direct)", pytest.approx(1.12)),
        ("short sessions", "plain directory", pytest.approx(0.25)),
    ]
    assert [(verdict.case, verdict.of, verdict.bound) for verdict in found] == wanted
    rows = [line for line in report.table(results).splitlines() if "missed" in line]
    assert [row.split("|")[-2].strip() for row in rows] == ["1.12", "0.25"]


def test_streams_are_compared_with_one_alone_and_with_their_mean() -> None:
    streams = (
        at(900, streams=(8.0, 12.0, 10.0)) + at(900, streams=(1.0, 19.0, 10.0)) + at(900, streams=(9.0, 10.0, 11.0))
    )
    results = {WRITE: {"vtlfs": at(100)}, STREAMS: {ALONE: at(1000), "vtlfs": streams}}
    assert verdicts(results) == [
        f"8 streams 10 KiB: 0.90 x {ALONE} (>= 0.9): met",
        "8 streams 10 KiB: 0.80 x the mean stream, of the slowest (>= 0.7): met",
    ]


def test_what_was_not_measured_has_no_verdict() -> None:
    assert verdicts({STREAMS: {"vtlfs": at(900)}}) == []
    assert verdicts({WRITE: {"plain directory": at(1), "mergerfs off": [], "vtlfs": []}}) == []
    assert verdicts({}) == []


def test_every_target_is_of_a_case_that_there_is() -> None:
    named = {target.case for target in TARGETS if isinstance(target, Rate | Time | Slowest | Memory)}
    assert named == {case.name for case in CASES} - {"10 KiB, unknown program"}
    assert len(judge(summarize(everything()))) == len(TARGETS)


def test_ratios_are_of_speed_where_seconds_are_measured() -> None:
    results = {TAR: {"plain directory": taking(10), "vtlfs": taking(5)}}
    row = next(line for line in report.table(results).splitlines() if "plain directory" in line)
    assert [cell.strip() for cell in row.split("|")[2:6]] == ["plain directory", "10.0 s", "10.0-10.0", "2.00"]


def test_the_tables_are_markdown_of_at_most_120_columns() -> None:
    lines = report.table(everything()).splitlines()
    assert max(map(len, lines)) <= 120
    assert not any("…" in line for line in lines)
    assert len([line for line in lines if line.startswith("|")]) == len(CASES) * len((*PEERS, *MORE)) + len(TARGETS) + 4
    row = next(line for line in lines if "mergerfs writeback" in line)
    assert [cell.strip() for cell in row.split("|")[3:-1]] == ["1117 MB/s", "1000-1234", "1.00", "1.50", "0.50", "50"]


def test_the_kernel_serves_without_a_process_to_look_at() -> None:
    results = {WRITE: {"plain directory": [Sample(10**9, 1, 1.5)], "vtlfs": at(100)}}
    row = next(line for line in report.table(results).splitlines() if "plain" in line and "0.10" in line)
    assert [cell.strip() for cell in row.split("|")[6:-1]] == ["1.50", "-", "-"]


def test_an_interrupted_run_has_a_table_of_what_it_measured() -> None:
    results: Results = {WRITE: {"plain directory": at(100), "vtlfs": []}, TAR: {"plain directory": [], "vtlfs": []}}
    text = report.table(results)
    assert "plain directory" in text
    assert "vtlfs  " not in text
    assert TAR.name not in text
    assert report.table({}) == "Nothing was measured.\n"


def test_a_line_a_run_has_the_unit_of_the_case() -> None:
    assert " 400 MB/s" in report.line(WRITE, "vtlfs", *at(400))
    assert " 2.50 s " in report.line(TAR, "plain directory", *taking(2.5))


def test_a_case_without_a_target_is_only_reported() -> None:
    slow = Case("slow disks", never)
    results = {slow: {"vtlfs": at(80), "vtlfs one disk": at(40)}}
    assert "slow disks" in report.table(results)
    assert verdicts(results) == []
    assert judge(summarize(results), [Rate("slow disks", "vtlfs one disk", 1.9)])[0].met


def test_the_file_has_every_sample_and_the_conditions(tmp_path: Path) -> None:
    results = {WRITE: {"mergerfs off": at(200, 220), "bindfs": [], "vtlfs": at(500, 900, streams=(1.5, 2.5))}}
    path = tmp_path / "benchmark.json"
    path.write_text("what was there before")
    report.write(results, path, conditions(tmp_path))
    document = json.loads(path.read_text())
    peers = document["cases"]["write 10 KiB"]["peers"]
    read = {
        peer: [Sample(**each | {"rates": tuple(each["rates"])}) for each in of["samples"]] for peer, of in peers.items()
    }
    assert read == {peer: samples for peer, samples in results[WRITE].items() if samples}
    assert peers["vtlfs"]["median"] == pytest.approx(700)
    assert peers["mergerfs off"]["ratio"] == pytest.approx(700 / 210)
    assert peers["vtlfs"]["ratio"] is None
    assert document["targets"] == [asdict(verdict) | {"met": True} for verdict in judge(summarize(results))]
    assert set(document["versions"]) == {"kernel", "python", "vtlfs", "pyfuse3", "mergerfs", "bindfs"}
    assert {"date", "processors", "memory", "file_system"} <= set(document)
    assert [entry.name for entry in tmp_path.iterdir()] == ["benchmark.json"]


def test_the_headline_says_when_a_run_is_too_small_for_its_verdicts(tmp_path: Path) -> None:
    about = conditions(tmp_path)
    assert "5 rounds, single streams of 1000 MiB" in headline(about, Sizes(), 5)
    assert "less than a full run" not in headline(about, Sizes(), 5)
    assert "less than a full run" in headline(about, Sizes(), 1)
    assert "less than a full run" in headline(about, Sizes.in_proportion(50), 5)
    assert max(map(len, headline(about, Sizes.in_proportion(50), 5).splitlines())) <= 120


def test_the_file_system_is_the_one_that_holds_the_directory(tmp_path: Path) -> None:
    assert file_system(Path("/proc/self/fd"))["type"] == "proc"
    assert set(file_system(tmp_path)) == {"type", "options"}


@pytest.mark.parametrize("cases", [1, 2, 9])
def test_the_plot_has_a_panel_a_case_and_says_what_is_better(tmp_path: Path, cases: int) -> None:
    pytest.importorskip("matplotlib")
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none"}):  # text as text
        plot.draw(dict(list(summarize(everything()).items())[:cases]), tmp_path / "plot.svg")
    drawn = (tmp_path / "plot.svg").read_text()
    assert drawn.count("more is better") + drawn.count("less is better") == cases
    assert drawn.count(">vtlfs<") == cases


@pytest.mark.parametrize("mib", [1, 8, 50])
def test_little_runs_still_have_blocks_files_and_sessions(mib: int) -> None:
    sizes = Sizes.in_proportion(mib)
    assert min(sizes.stream, sizes.tiny_stream, sizes.of_many) >= 4 * MIB
    assert sizes.stream % MIB == 0
    assert sizes.files >= 100
    assert sizes.sessions >= 10


def test_a_full_run_has_the_sizes_that_are_written_down() -> None:
    assert Sizes.in_proportion(1000) == Sizes()
