"""The only composition root: settings in, wired parts out. Everything else takes what it needs as arguments.

Imports stand inside the functions, so that a command loads what it runs and nothing else: a worker needs no torch,
training no Faust.
"""

from foretaste.compose.filling import rebuild, user_import
from foretaste.compose.ports import (
    apply_features,
    create_topics,
    events,
    feast_config,
    generations,
    kafka_connection,
    lease,
    parts,
    redis_address,
    redis_tls,
    resolve,
    store,
    towers,
    training_log,
    triton_tls,
)
from foretaste.compose.refresh import learner, publish_parts, refresh_parts
from foretaste.compose.running import store_watch, task_ends
from foretaste.compose.service import access_policy, api, onboarding, ranking, recommending, registered_items
from foretaste.compose.workers import log_worker, watch_worker, worker

__all__ = [
    "access_policy",
    "api",
    "apply_features",
    "create_topics",
    "events",
    "feast_config",
    "generations",
    "kafka_connection",
    "learner",
    "lease",
    "log_worker",
    "onboarding",
    "parts",
    "publish_parts",
    "ranking",
    "rebuild",
    "recommending",
    "redis_address",
    "redis_tls",
    "refresh_parts",
    "registered_items",
    "resolve",
    "store",
    "store_watch",
    "task_ends",
    "towers",
    "training_log",
    "triton_tls",
    "user_import",
    "watch_worker",
    "worker",
]
