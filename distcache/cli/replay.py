"""The command that replays a trace, or a cache's own events, through every eviction policy."""

from __future__ import annotations

from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import click

from distcache.cli.show import as_json, print_json, print_table
from distcache.cli.target import options
from distcache.config import POLICIES
from distcache.policies import UNBOUNDED
from distcache.replay import Outcome, Trace, from_events, means, read_trace, recommend
from distcache.replay import replay as run

if TYPE_CHECKING:
    from distcache.cli.target import Target

PERCENT = (1.0, 5.0, 10.0, 25.0)
EVENTS = 1_000_000
MOST_ENTRIES = UNBOUNDED - 1
MOST_MB = 9e9
"""In bytes still less than UNBOUNDED."""


def _numbers(_ctx: click.Context, _option: click.Parameter, mb: tuple[float, ...]) -> tuple[float, ...]:
    """NaN is below no limit and above none, so click lets it pass."""
    if any(map(isnan, mb)):
        raise click.BadParameter(f"nan is not in the range 0<x<={MOST_MB}.")
    return mb


@click.command()
@click.argument("trace", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.option("--events", is_flag=True, help="Replay what the cache's event stream holds, under the cache's bounds.")
@click.option(
    "--entries", multiple=True, type=click.IntRange(1, MOST_ENTRIES), help="Bound in entries; may be repeated."
)
@click.option(
    "--mb",
    multiple=True,
    type=click.FloatRange(0, MOST_MB, min_open=True),
    callback=_numbers,
    help="Bound in 10^6 bytes.",
)
@click.option("--policy", "policies", multiple=True, type=click.Choice(POLICIES), help="Only this; may be repeated.")
@options()
@as_json
def replay(
    target: Target,
    trace: Path | None,
    events: bool,
    entries: tuple[int, ...],
    mb: tuple[float, ...],
    policies: tuple[str, ...],
    json_: bool,
) -> None:
    """Replay TRACE through the eviction policies, and say which misses least.

    A line of TRACE is a request: 'key', or 'key size_bytes cost_ms time_s'. Without bounds, caches of 1, 5, 10 and
    25 percent of it are tried.
    """
    if (trace is None) != events:
        raise click.UsageError("name a trace, or say --events to replay the cache's own")
    found, bounds = _of_events(target) if trace is None else (read_trace(trace), [])
    if not found.requests:
        raise click.ClickException("there is no request to replay")
    if entries or mb:
        bounds = [{"max_entries": one} for one in entries] + [{"max_bytes": int(one * 1e6)} for one in mb]
    bounds = bounds or _shares(found)
    outcomes = [run(found, policy, **bound) for bound in bounds for policy in policies or POLICIES]
    (_print_json if json_ else _print)(found, outcomes)


def _of_events(target: Target) -> tuple[Trace, list[dict[str, int]]]:
    with target.smart(look=True) as cache:
        events, stats = cache.get_recent_events(EVENTS), cache.get_stats()
    return from_events(events), [
        {"max_entries": stats["max_entries"], "max_bytes": int(stats["max_size_mb"] * 1024 * 1024)}
    ]


def _shares(trace: Trace) -> list[dict[str, int]]:
    if trace.sized:
        return [{"max_bytes": trace.bytes(percent)} for percent in PERCENT]
    return [{"max_entries": trace.entries(percent)} for percent in PERCENT]


def _print_json(trace: Trace, outcomes: list[Outcome]) -> None:
    rows = [
        {**asdict(one), "miss_ratio": one.miss_ratio, **({"saved_share": one.saved_share} if trace.sized else {})}
        for one in outcomes
    ]
    print_json({"recommended": recommend(outcomes, sized=trace.sized), "outcomes": rows})


def _print(trace: Trace, outcomes: list[Outcome]) -> None:
    columns = ["bound", "policy", "miss ratio"] + ["missed MB", "seconds saved", "of avoidable"] * trace.sized
    print_table(columns, [_row(one, sized=trace.sized) for one in outcomes])
    best = recommend(outcomes, sized=trace.sized)
    what = "of the avoidable seconds are lost" if trace.sized else "of the requests miss"
    click.echo(f"{outcomes[0].requests:,} requests. Recommended: policy={best!r}; on the mean of these bounds")
    for policy, loss in sorted(means(outcomes, sized=trace.sized).items(), key=lambda item: item[1]):
        click.echo(f"  {policy:<9} {loss:6.1%} {what}")


def _row(one: Outcome, *, sized: bool) -> list[str]:
    row = [one.bound, one.policy, f"{one.miss_ratio:.3f}"]
    if sized:
        row += [f"{one.missed_bytes / 1e6:,.1f}", f"{one.saved_s:,.0f}", f"{one.saved_share:.1%}"]
    return row
