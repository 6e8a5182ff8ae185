"""`foretaste evaluate`: towers and rivals compared on real data, as rows, a page and figures."""

import json
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foretaste.cli.data import DataOption
from foretaste.console import console, progress
from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.ports import Report, no_report
from foretaste.settings import Settings

if TYPE_CHECKING:
    from models.study.study import Result, Study

Towers = Annotated[
    str, typer.Option("--towers", help="Names, or package.module:factory; the first is held against every other.")
]
Protocols = Annotated[
    str | None,
    typer.Option(
        "--protocols",
        help="Of hidden, first_steps, random_40, random_40_steps, new_items; by default those of new users that the "
        "data have.",
    ),
]
Seeds = Annotated[str, typer.Option("--seeds", help="Of the training; every figure is a mean over them.")]
Against = Annotated[
    str, typer.Option("--against", help="Towers that every other one is held against, where they take part.")
]
Out = Annotated[Path, typer.Option("--out", help="The folder of the rows, the page and the figures.")]
Tune = Annotated[bool, typer.Option("--tune", help="First choose each tower's settings, inside the training period.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Train again though scores are kept: the code has changed.")]
Resamples = Annotated[int, typer.Option("--resamples", min=1, help="Draws of the users, for the intervals.")]
Processes = Annotated[int | None, typer.Option("--jobs", min=1, help="Processes, a thread each; by default the cores.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda or auto.")]
Trained = Annotated[
    str | None,
    typer.Option(
        "--alike",
        help="One training for all towers, other methods as tuned: epochs=2,batch=1024,rate=0.003,dropout=0.1.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the rows, and nothing else.")]


def evaluate(  # noqa: PLR0913, PLR0917  # a command's options
    data: DataOption = "ml-1m",
    towers: Towers = "foretaste,mail,dnn,dnn-flagged,dnn-dropout,item-attribute,popularity,recent-popularity",
    protocols: Protocols = None,
    seeds: Seeds = "0,1,2",
    against: Against = "dnn,dnn-flagged,dnn-dropout,item-attribute,recent-popularity",
    out: Out = Path("results"),
    tune: Tune = False,
    fresh: Fresh = False,
    resamples: Resamples = 1000,
    processes: Processes = None,
    device: Device = "cpu",
    alike: Trained = None,
    as_json: AsJson = False,
) -> None:
    """Compare towers and rivals on a data set: rows, a page with intervals, and figures. An interrupted one goes on."""
    options: dict[str, str | int] = {"data": data, "towers": towers}
    options |= {} if protocols is None else {"protocols": protocols}
    options |= {"seeds": seeds, "against": against, "resamples": resamples}
    if alike is not None and tune:
        raise InvalidInput("alike", alike, "cannot be asked for together with --tune")
    study = _study(options, processes or os.cpu_count() or 1, device, alike)
    flags = "".join(f" --{name}" for name, given in (("tune", tune), ("fresh", fresh)) if given)
    options |= {name: value for name, value in (("device", device), ("alike", alike)) if value not in {"cpu", None}}
    written = " ".join(f"--{name} {shlex.quote(str(value))}" for name, value in options.items())
    command = f"foretaste evaluate {written} --out {shlex.quote(str(out))}{flags}"
    if as_json:
        result = run(Settings(), data, study, out, command, no_report, tune=tune, fresh=fresh)
        typer.echo(json.dumps([row.to_dict() for row in result.rows], allow_nan=False))
        return
    with progress() as report:
        result = run(Settings(), data, study, out, command, report, tune=tune, fresh=fresh)
    untuned = [one.name for one in result.contenders if one.trial is None]
    if untuned and len(untuned) < len(result.contenders):
        console.print(f"not tuned, beside others that are: {', '.join(untuned)}", highlight=False)
    console.print(f"{len(result.rows)} rows, their page and the figures are in {out}", highlight=False)


def run(
    settings: Settings,
    data: str,
    study: "Study",
    out: Path,
    command: str,
    report: Report,
    *,
    tune: bool = False,
    fresh: bool = False,
) -> "Result":
    """Evaluate, and write `towers-<data>.json`, the page beside it and the figures; with `tune`, `tuned-<data>.json`.

    `command` is what the page says made it.
    """
    from models.data.sources.public import open_dataset
    from models.rivals.methods import by_name
    from models.study import figures, page, rows, tuning
    from models.study.fold import Fold
    from models.study.study import evaluate as evaluate_study

    dataset = open_dataset(data, settings.made_home() / "data", report)
    name = page.file_name(dataset.description.name)
    tuned = out / f"tuned-{name}.json"
    if tune:
        fold = Fold.of(dataset)
        judged = tuning.judged_by(fold, study.asked_of(fold))
        found = tuning.tune(
            fold,
            {name: by_name(name) for name in study.towers},
            settings.home,
            judged=judged,
            jobs=study.jobs,
            device=study.device,
            fresh=fresh,
            report=report,
        )
        tuning.write_tuned(found, fold, tuned, judged)
    result = evaluate_study(dataset, study, settings.home, tuned, fresh=fresh, report=report)
    report("figures", 0, 1)
    drawn = figures.draw(result, out)
    rows.write(result.rows, out / f"towers-{name}.json")
    page.write_page(page.page(result, command, drawn), out / f"towers-{name}.md")
    report("figures", 1, 1)
    return result


def _study(options: dict[str, str | int], processes: int, device: str, alike: str | None) -> "Study":
    """Raises `InvalidInput` naming the option."""
    from models.rivals.towers import Alike
    from models.study.fold import check_protocols
    from models.study.study import Study

    if device not in {"cpu", "cuda", "auto"}:
        raise InvalidInput("device", device, "expected one of cpu, cuda, auto")
    return Study(
        towers=tuple(_names(str(options["towers"]))),
        protocols=check_protocols(_names(str(options["protocols"]))) if "protocols" in options else None,
        seeds=tuple(_number(text) for text in _names(str(options["seeds"]))),
        against=tuple(_names(str(options["against"]))),
        resamples=int(options["resamples"]),
        jobs=processes,
        device=device,  # type: ignore[arg-type]  # one of the three, as was just checked
        alike=None if alike is None else Alike.parse(alike),
    )


def _names(text: str) -> Sequence[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _number(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise InvalidInput("seeds", text, "expected whole numbers, 0,1,2")
    return int(text)
