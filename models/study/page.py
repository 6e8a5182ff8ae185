"""The readable page beside the rows: tables with intervals, and how they were made."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path

from models.data.sampling import users_repeat
from models.evaluation.scores import METRICS, Metric
from models.rivals.methods import TRIALS
from models.study.fold import BY_STEPS, MADE_NEW, MADE_NEW_ITEMS, MAKES_NEW, SEED, ProtocolName
from models.study.protocols import NEGATIVES, SEEN, STEPS
from models.study.rows import ResultRow
from models.study.study import Result

TITLES: dict[ProtocolName, str] = {
    "hidden": "Hidden: new users without their behaviour, warm users with it",
    "first_steps": "First steps: new users, by how many behaviours were seen before",
    "random_40": "Random 40 %: users made new at random",
    "random_40_steps": "First steps of the users made new at random",
    "new_items": "New items: 20 % of the items made new at random",
}
MEANINGS: dict[ProtocolName, str] = {
    "hidden": "Split by time. New users first act at or after the split; all their events are ranked with behaviour "
    "hidden, at the age that the user's account had at each. Warm users acted on both sides; their events after the "
    "split are ranked with what they had done strictly before each.",
    "first_steps": f"The first {STEPS} events of each new user, each ranked with exactly the behaviour strictly "
    "earlier. The columns say how much that is.",
    "random_40": f"A random {100 * MADE_NEW:.0f} % of all users are made new: all that they did before the split is "
    "taken out of the data, so that it is in no count, vocabulary, history or negative; their events after it are "
    "ranked with behaviour hidden. Warm are the others, with what they had done strictly before each event.",
    "random_40_steps": f"The first {STEPS} events after the split of each user made new, each ranked with exactly the "
    "behaviour between the split and it. The columns say how much that is.",
    "new_items": f"A random {100 * MADE_NEW_ITEMS:.0f} % of all items are made new: all that was done with them before "
    "the split is taken out of the data, and their attributes are registered at the split. Each event with one of them "
    "after it is ranked against others of them, drawn by how often they were acted on before the split in the whole "
    "data: nothing tells them apart but their attributes. New users first act at or after the split, and their "
    "behaviour is hidden; warm are the others.",
}
NAMES: dict[Metric, str] = {
    "auc": "AUC",
    "gauc": "GAUC",
    "ndcg@10": "NDCG@10",
    "gauc_without_repeats": "GAUC without what a user had acted on before",
    "ndcg@10_without_repeats": "NDCG@10 without what a user had acted on before",
}


def page(result: Result, command: str, figures: Sequence[tuple[str, str]] = ()) -> str:
    """Markdown. `command` is what makes it again; `figures` are (file, what it shows)."""
    parts = [f"# Towers on {result.fold.dataset.description.name}", _how(result, command)]
    parts += [_protocol(result, protocol) for protocol in result.protocols]
    if figures:
        parts.append("## Figures")
        parts += [f"![{shown}]({file})\n\n{shown}." for file, shown in figures]
    parts.append(_settings(result))
    return "\n\n".join(parts) + "\n"


def write_page(text: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _how(result: Result, command: str) -> str:
    fold, study = result.fold, result.study
    instant = datetime.fromtimestamp(fold.split.instant_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if fold.dataset.has_labels:
        candidates = "Candidates are the data's own impressions, with their labels."
    else:
        spared = "met at that moment" if users_repeat(fold.dataset) else "ever met"
        candidates = (
            f"Each event is ranked against {NEGATIVES} items drawn by their popularity before the split, never one "
            f"that the user {spared} (seed {SEED}; the same candidates for every tower and every seed). An event whose "
            f"item could not be drawn itself is not asked."
        )
    makes_new = [name for name in result.protocols if name in MAKES_NEW]
    fewer = f", {len(fold.under(makes_new[0]).split.train):,} of them where users are made new" if makes_new else ""
    registered = fold.dataset.description.users.registered
    ages = "The age of an account counts from its registration."
    if registered is None:
        ages = "The age of an account counts from its user's first event, since the data have no registrations."
    return f"""Made by

    {command}

in {_duration(result.seconds)} on the wall, with what was in the cache. Training: {len(fold.split.train):,} interactions
before {instant}{fewer}; nothing later reached training or tuning. {candidates} {ages}

Each figure is the mean over seeds {", ".join(map(str, study.seeds))}; in brackets its 95 % percentile interval over
{study.resamples:,} draws of the users, the same draws for every tower and seed, so that differences are paired. They
hold what other users would change, not what other seeds would. GAUC is each user's AUC weighted by impressions, users
of one class left out. NDCG@10 ranks all candidates of a user together and is averaged over users. A difference is
relative, (b - a) / a, in %; one in bold has an interval without 0. An empty group is nan."""


def _protocol(result: Result, protocol: ProtocolName) -> str:
    own = [row for row in result.rows if row.protocol == protocol]
    groups = list(SEEN) if protocol in BY_STEPS else ["new", "warm"]
    asked = "; ".join(
        f"{group}: {users:,} users, {rows:,} candidates"
        for group in groups
        for users, rows in [result.counts[protocol, group]]
    )
    parts = [f"## {TITLES[protocol]}", MEANINGS[protocol], f"Asked: {asked}."]
    for metric in METRICS:  # those without repeats only where something repeats
        rows = [row for row in own if row.metric == metric and row.against is None]
        parts += [] if not rows else [f"### {NAMES[metric]}", _table(rows, groups, _value)]
    for against in dict.fromkeys(row.against for row in own if row.against is not None):
        for metric in ("gauc", "gauc_without_repeats"):
            rows = [row for row in own if row.against == against and row.metric == metric]
            parts += [] if not rows else [f"### {NAMES[metric]}, against {against}, %", _table(rows, groups, _relative)]
    return "\n\n".join(parts)


def _table(rows: Sequence[ResultRow], groups: Sequence[str], shown: Callable[[ResultRow], str]) -> str:
    """A line a tower, a column a group."""
    cells = {(row.tower, row.group): shown(row) for row in rows}
    lines = [_line(["tower", *groups]), _line(["---", *("---:" for _ in groups)])]
    towers = dict.fromkeys(row.tower for row in rows)
    lines += [_line([tower, *(cells.get((tower, group), "") for group in groups)]) for tower in towers]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _value(row: ResultRow) -> str:
    return "nan" if math.isnan(row.value) else f"{row.value:.4f} [{row.low:.4f}, {row.high:.4f}]"


def _relative(row: ResultRow) -> str:
    if math.isnan(row.relative):
        return "nan"
    text = f"{100 * row.relative:+.2f} [{100 * row.relative_low:+.2f}, {100 * row.relative_high:+.2f}]"
    return f"**{text}**" if row.relative_low > 0 or row.relative_high < 0 else text


def _settings(result: Result) -> str:
    """What was chosen by tuning, and what a fit takes."""
    meaning = (
        f"Each method had {TRIALS} trials where it was tuned, judged on the last fifth of the training period "
        f"by new and warm users (every trial is in `tuned-{slug(result)}.json`). Settings are those "
        "that differ from the defaults of the method's class. Seconds are those of one fit, when it was made."
    )
    lines = [
        "## Settings",
        "",
        meaning,
        "",
        _line(["tower", "trial", "seconds", "settings"]),
        _line(["---", "---", "---:", "---"]),
    ]
    for one in result.contenders:
        trial = "not tuned" if one.trial is None else f"{one.trial + 1} of {TRIALS}"
        lines.append(_line([one.name, trial, f"{one.seconds:.1f}", differing_settings(one.method) or "the defaults"]))
    return "\n".join(lines)


def differing_settings(settings: object) -> str:
    """What of a dataclass differs from the defaults of its class, or everything where it has none; "" for nothing."""
    try:
        usual = _flat(type(settings)())
    except TypeError:  # a class that takes arguments
        usual = {}
    own = {name: value for name, value in _flat(settings).items() if name not in usual or usual[name] != value}
    return ", ".join(f"`{name}={value!r}`" for name, value in own.items())


def _flat(settings: object, prefix: str = "") -> dict[str, object]:
    """Each field of a dataclass and of those within it, by its path."""
    if not is_dataclass(settings):
        return {prefix.removesuffix("."): settings}
    found: dict[str, object] = {}
    for one in fields(settings):
        found |= _flat(getattr(settings, one.name), f"{prefix}{one.name}.")
    return found


def slug(result: Result) -> str:
    """The name of the data, as a part of file names."""
    return file_name(result.fold.dataset.description.name)


def file_name(text: str) -> str:
    """A text as part of a file name: letters, digits, points and hyphens."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "data"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
