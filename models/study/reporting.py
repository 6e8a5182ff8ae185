"""What a person hears of many fits: how long they will take, and how far each tower has come."""

from collections import Counter
from collections.abc import Sequence

from foretaste.kernel.ports import Report
from models.study.duration import expected
from models.study.running import TaskProgress
from models.study.scoring import Bench, FitTask

HUNDREDTHS = 100
"""Of a fit: the steps in which a tower's progress is told."""


def reported_fits(bench: Bench, tasks: Sequence[FitTask], jobs: int, report: Report, before: str = "") -> TaskProgress:
    """Says how long the tasks will take, and what they are to tell their progress to.

    `report` gets, after `before` and the name of a tower, the hundredths of all its fits.
    """
    report(str(expected(bench, tasks, jobs)), 0, None)
    of_task = {id(task): 0 for task in tasks}
    fits = Counter(task.tower for task in tasks)

    def hear(task: FitTask, done: int, total: int) -> None:
        of_task[id(task)] = HUNDREDTHS if total == done == 1 else min(HUNDREDTHS * done // total, HUNDREDTHS - 1)
        own = sum(of_task[id(one)] for one in tasks if one.tower == task.tower)
        report(f"{before}{task.tower}", own, HUNDREDTHS * fits[task.tower])

    return hear
