"""The demo's table."""

from typing import Any

from rich.console import Console
from rich.table import Table


def show(result: dict[str, Any], console: Console) -> None:
    """Print what `demo.json` holds: the live part, the quality, the time by step, and one user's two top tens."""
    live = Table("sign-ups", "enriched", "dead letters", "p50 ms", "p99 ms", "a second", title="Live, through Kafka")
    latency = result["latency_ms"]
    live.add_row(
        *(
            str(value)
            for value in (
                result["sign_ups"],
                result["enriched"],
                result["dead_letters"],
                latency["p50"],
                latency["p99"],
                result["sign_ups_per_second"],
            )
        )
    )
    console.print(live)

    served_by = ", ".join(f"{count} {source}" for source, count in result["served_by"].items())
    quality = Table("", "AUC", "GAUC", title=f"New users over held-out candidates, served by: {served_by}")
    ways = {
        "virtual": "live answers, with virtual behaviour",
        "none": "the same tower without it",
        "popularity": "popularity",
    }
    for way, name in ways.items():
        quality.add_row(name, str(result["auc"][way]), str(result["gauc"][way]))
    console.print(quality)

    top = result["top_ten"]
    lists = Table("", f"before sign-up ({top['before']['served_by']})", f"after ({top['after']['served_by']})")
    lists.title = f"Top ten of user {top['user']}; * acted on later"
    later = set(top["acted_on_later"])
    for place, (before, after) in enumerate(zip(top["before"]["items"], top["after"]["items"], strict=True), 1):
        lists.add_row(str(place), *(f"{item} *" if item in later else item for item in (before, after)))
    console.print(lists)

    seconds = Table("step", "seconds", title="Time")
    for step, spent in result["seconds"].items():
        seconds.add_row(step, str(spent))
    console.print(seconds)
