"""A writer of one table as a process of its own, for tests that kill it: says each row that is durable.

`python -m tests.integration.log_table_writer ADDRESS NAME COUNT`
"""

import sys

from features.log.delta import DayTable
from features.log.rows import rankings_table
from tests.log_factory import at, ranked


def main(address: str, name: str, count: str) -> None:
    table = DayTable(address, "at")
    for number in range(int(count)):
        table.append(rankings_table([ranked(f"{name}.{number}.{half}", at(number % 2 + half)) for half in (0, 1)]))
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
