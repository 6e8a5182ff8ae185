"""What the routes of the HTTP service work on."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from foretaste.kernel.ports import OnlineStore
from foretaste.kernel.running.registered_items import RegisteredItems
from foretaste.kernel.service_ports import EventIntake, GenerationAdmin, IdempotencyKeys
from serving.active import ActiveGeneration
from serving.console.comparison import Comparison
from serving.console.overview import OverviewReader
from serving.health import ServiceHealth
from serving.onboarding import Onboarding
from serving.rankings.impressions import BufferedImpressions
from serving.rankings.ranking import Ranking
from serving.rankings.recommending import Recommending
from serving.users import StoredUsers


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """Opened parts; whoever opened them closes them, but for the impressions, which end with the application."""

    ranking: Ranking
    recommending: Recommending
    users: StoredUsers
    intake: EventIntake
    items: RegisteredItems
    onboarding: Onboarding
    idempotency: IdempotencyKeys
    generations: GenerationAdmin
    health: Callable[[], Awaitable[ServiceHealth]]
    registry: CollectorRegistry
    active: ActiveGeneration
    store: OnlineStore
    overview: OverviewReader
    comparison: Comparison
    impressions: BufferedImpressions | None = None
