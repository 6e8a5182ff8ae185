"""Settings of a benchmark that starts a stack of its own."""

import time

from foretaste.kernel.errors import InvalidInput
from foretaste.settings import Settings


def own_settings(settings: Settings) -> Settings:
    """The settings of an own stack in `settings.home`, with topics of the benchmark's own on a Kafka that they name.

    Raises `InvalidInput` where they name another part: the benchmark would not leave the user's own as it was.
    """
    for name in ("redis", "triton", "triton_repository", "registry", "log"):
        if getattr(settings, name) is not None:
            raise InvalidInput(name, str(getattr(settings, name)), "unset it: the benchmark runs on a stack of its own")
    prefix = f"foretaste-bench-{time.time_ns():x}-"
    own = {"project": "foretaste_bench", "topic_prefix": prefix, "api_port": 0, "api_host": "127.0.0.1"}
    return settings.model_copy(update=own)
