"""What the topics and the consumer groups are called. Nothing here reaches a broker."""

from dataclasses import dataclass

from foretaste.kernel.events import Topic


@dataclass(frozen=True, slots=True)
class TopicNames:
    """What the topics and the consumer group are called under `prefix`, which lets deployments share a broker."""

    prefix: str = ""

    @property
    def registered(self) -> str:
        return f"{self.prefix}{Topic.REGISTERED}"

    @property
    def behaved(self) -> str:
        return f"{self.prefix}{Topic.BEHAVED}"

    @property
    def enriched(self) -> str:
        return f"{self.prefix}{Topic.ENRICHED}"

    @property
    def ranked(self) -> str:
        return f"{self.prefix}{Topic.RANKED}"

    @property
    def reenrich(self) -> str:
        return f"{self.prefix}{Topic.REENRICH}"

    @property
    def erased(self) -> str:
        return f"{self.prefix}{Topic.ERASED}"

    @property
    def profiles(self) -> str:
        return f"{self.prefix}{Topic.PROFILES}"

    @property
    def erasure_records(self) -> str:
        return f"{self.prefix}{Topic.ERASURE_RECORDS}"

    @property
    def item_registered(self) -> str:
        return f"{self.prefix}{Topic.ITEM_REGISTERED}"

    @property
    def dead_letters(self) -> str:
        return f"{self.prefix}{Topic.DEAD_LETTERS}"

    @property
    def replays(self) -> str:
        return f"{self.prefix}{Topic.REPLAYS}"

    @property
    def group(self) -> str:
        """The workers' consumer group: the same name after every start, since the offsets are kept under it."""
        return f"{self.prefix}foretaste"

    @property
    def log_group(self) -> str:
        """The consumer group of what writes the training log."""
        return f"{self.prefix}foretaste-log"

    def all(self) -> tuple[str, ...]:
        events = (self.registered, self.behaved, self.enriched, self.ranked, self.reenrich)
        of_erasures = (self.erased, self.profiles, self.erasure_records)
        return (*events, *of_erasures, self.item_registered, self.dead_letters, self.replays)
