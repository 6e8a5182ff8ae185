"""The demo's tables."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

WAYS = {
    "virtual": "live answers, with virtual behaviour",
    "none": "the same tower without it",
    "popularity": "popularity",
}


def show(result: dict[str, Any], console: Console) -> None:
    """Print what `demo.json` holds: the live part, the quality, one user's two top tens, the refresh and what it was
    worth, and the time by step."""
    for table in (
        _live(result),
        _quality(result),
        _top_tens(result["top_ten"]),
        _refresh(result),
        _during(result["during"]),
        _generations(result),
        _first_session(result["first_session"]),
        _one_session(result["first_session"]),
        _seconds(result["seconds"]),
    ):
        console.print(table)


def _live(result: Mapping[str, Any]) -> Table:
    table = Table("sign-ups", "enriched", "dead letters", "p50 ms", "p99 ms", "a second", title="Live, through Kafka")
    latency = result["latency_ms"]
    figures = [result[name] for name in ("sign_ups", "enriched", "dead_letters")]
    table.add_row(*map(str, [*figures, latency["p50"], latency["p99"], result["sign_ups_per_second"]]))
    return table


def _quality(result: Mapping[str, Any]) -> Table:
    served_by = _counted(result["served_by"])
    table = Table("", "AUC", "GAUC", title=f"New users over held-out candidates, served by: {served_by}")
    for way, name in WAYS.items():
        table.add_row(name, str(result["auc"][way]), str(result["gauc"][way]))
    return table


def _top_tens(top: Mapping[str, Any]) -> Table:
    table = Table("", f"before sign-up ({top['before']['served_by']})", f"after ({top['after']['served_by']})")
    table.title = f"Top ten of user {top['user']}; * acted on later"
    later = set(top["acted_on_later"])
    for place, (before, after) in enumerate(zip(top["before"]["items"], top["after"]["items"], strict=True), 1):
        table.add_row(str(place), *(f"{item} *" if item in later else item for item in (before, after)))
    return table


def _refresh(result: Mapping[str, Any]) -> Table:
    acted, refresh = result["acted"], result["refresh"]
    learned, verdict = refresh["learned_from"], refresh["verdict"]
    table = Table("", "", title="The refresh, from what they did", show_header=False)
    table.add_row("acted", f"{acted['users']} users, {acted['rankings']} rankings answered by {acted['acts']} acts")
    table.add_row("learned from", f"{learned['rankings']} rankings, {learned['impressions']} impressions")
    table.add_row("the gate", "was not reached" if verdict is None else verdict["decision"].replace("_", " "))
    table.add_row(refresh["outcome"], refresh["detail"])
    steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in refresh["steps"].items())
    table.add_row("seconds", f"{refresh['seconds']}: {steps}" if steps else "")
    return table


def _during(during: Mapping[str, Any]) -> Table:
    served = ", ".join(f"{number}: {count}" for number, count in during["by_generation"].items())
    table = Table(title=f"While it ran; answers by generation {served}; served by: {_counted(during['served_by'])}")
    for name in ("sign-ups", "enriched", "rankings", "failed", "mixed generations", "p50 ms", "p99 ms"):
        table.add_column(name)
    names = ("sign_ups", "enriched", "rankings", "failed", "mixed", "p50_ms", "p99_ms")
    table.add_row(*(str(during[name]) for name in names))
    return table


def _generations(result: Mapping[str, Any]) -> Table:
    worth = result["generations"]
    table = Table("generation", "GAUC of its live answers", "of popularity as it knows it")
    table.title = f"The {worth['users']} users who came after, ranked by each; 95 % intervals over users"
    for number, figure in worth["gauc"].items():
        table.add_row(number, _figure(figure), _figure(worth["popularity"][number]))
    if worth["difference"] is not None:
        table.add_row("difference", f"{_figure(worth['difference'])}: {_comparison(worth['difference'])}", "")
    return table


def _first_session(session: Mapping[str, Any]) -> Table:
    wait = session["click_to_ranking_ms"]
    table = Table("clicks before", "mean place of what comes next", "among the first ten")
    table.title = f"First sessions of {session['users']} users; {session['candidates']} candidates"
    table.caption = f"from a click to a ranking that has read it: p50 {wait['p50']} ms, p99 {wait['p99']} ms"
    for clicks, (place, share) in enumerate(zip(session["mean_place"], session["among_first_ten"], strict=True)):
        table.add_row(str(clicks), str(place), "" if share is None else f"{share:.0%}")
    return table


def _one_session(session: Mapping[str, Any]) -> Table:
    table = Table("clicked", "then the list begins with", "acts on next", "at place", title="One of them")
    for step in session["one_user"]:
        table.add_row(step["clicked"] or "", ", ".join(step["first"]), step["next"], str(step["place"]))
    return table


def _comparison(difference: Mapping[str, float | None]) -> str:
    low, high = difference["low"] or 0.0, difference["high"] or 0.0
    if low > 0:
        return "the new one is better"
    return "the new one is worse" if high < 0 else "neither is shown to be better"


def _figure(figure: Mapping[str, float | None]) -> str:
    if figure["value"] is None:
        return "nobody to judge"
    return f"{figure['value']:.4f} [{figure['low']:.4f}, {figure['high']:.4f}]"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _seconds(seconds: Mapping[str, float]) -> Table:
    table = Table("step", "seconds", title="Time")
    for step, spent in seconds.items():
        table.add_row(step, str(spent))
    return table
