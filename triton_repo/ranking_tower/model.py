"""Triton's way into the ranking tower: decode, call, encode. The tower is `models/runtime/towers.py` beside it."""

import json
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

sys.path.insert(0, str(Path(__file__).parent))  # the `models` package of this very version

from models.runtime.priority import quietly

quietly(lambda: import_module("models.runtime.towers"))  # other versions answer meanwhile

from models.runtime.towers import (  # noqa: E402  # after the import above
    BadRequest,
    RankingRequest,
    ServedRanking,
    decode_object,
    decode_texts,
    providers_of,
)


class TritonPythonModel:
    """One instance of one version; Triton gives each a process of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        providers = providers_of(args["model_instance_kind"], args["model_instance_device_id"])
        threads = int(parameters["threads"]["string_value"])
        tower = partial(ServedRanking, Path(__file__).parent, providers=providers, threads=threads)
        self.tower = quietly(tower) if threads == 1 else tower()  # threads of a session keep the priority that made it

    def execute(self, requests: list[Any]) -> list[Any]:
        """All requests in one run, each with its own K; a request that cannot be read fails alone."""
        decoded = [self._decode(request) for request in requests]
        users = [user for own in decoded if isinstance(own, list) for user in own]
        scores = iter(self.tower.run(users))
        return [
            pb_utils.InferenceResponse(error=own)
            if isinstance(own, pb_utils.TritonError)
            else pb_utils.InferenceResponse([pb_utils.Tensor("scores", np.stack([next(scores) for _ in own]))])
            for own in decoded
        ]

    def _decode(self, request: Any) -> Any:
        """The users of a request, one a row and all of one K, as indices; or a `TritonError`."""
        names = ("attributes", "context", "behaviour", "virtual_behaviour", "items")
        columns = [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in names]
        try:
            return [self.tower.encode(_user(*row)) for row in zip(*columns, strict=True)]
        except BadRequest as error:
            return pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)


def _user(attributes: Any, context: Any, behaviour: Any, virtual: Any, items: Any) -> RankingRequest:
    acted = decode_object("behaviour", behaviour[0])
    return RankingRequest(
        attributes=decode_object("attributes", attributes[0]),
        context=decode_object("context", context[0]),
        items=decode_texts("behaviour", acted, "items"),
        actions=decode_texts("behaviour", acted, "actions"),
        virtual=virtual,
        candidates=[item.decode("utf-8") for item in items],
    )
