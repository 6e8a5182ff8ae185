"""In-memory forms of the ports, for tests and small trials; the conformance suites hold them beside the real forms.

The towers have none: `models.generations.in_process.InProcessTowers` needs no server either.
"""

from foretaste.testing.checkpoint import InMemoryCheckpoint
from foretaste.testing.events import InMemoryEvents, Sent
from foretaste.testing.features import InMemoryOneStepStore, InMemoryOnlineStore
from foretaste.testing.generations import InMemoryGenerations
from foretaste.testing.items import InMemoryItemRegistry
from foretaste.testing.last_erasure import InMemoryLastErasure
from foretaste.testing.lease import InMemoryLease, LeaseBoard
from foretaste.testing.log import InMemoryTrainingLog
from foretaste.testing.offsets import InMemoryOffsets
from foretaste.testing.progress import InMemoryProgress
from foretaste.testing.retrieval import InMemoryRetrieval
from foretaste.testing.service import InMemoryIdempotencyKeys
from foretaste.testing.whole_users import InMemoryWholeUserStore

__all__ = [
    "InMemoryCheckpoint",
    "InMemoryEvents",
    "InMemoryGenerations",
    "InMemoryIdempotencyKeys",
    "InMemoryItemRegistry",
    "InMemoryLastErasure",
    "InMemoryLease",
    "InMemoryOffsets",
    "InMemoryOneStepStore",
    "InMemoryOnlineStore",
    "InMemoryProgress",
    "InMemoryRetrieval",
    "InMemoryTrainingLog",
    "InMemoryWholeUserStore",
    "LeaseBoard",
    "Sent",
]
