"""Triton's way into the zero-shot tower: decode, call, encode. The tower is `models/runtime/towers.py` beside it."""

import json
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

sys.path.insert(0, str(Path(__file__).parent))  # the `models` package of this very version

from models.runtime.priority import quietly

quietly(lambda: import_module("models.runtime.towers"))  # other versions answer meanwhile

from models.runtime.towers import BadRequest, ServedZeroShot, decode_object, providers_of  # noqa: E402  # after the import above


class TritonPythonModel:
    """One instance of one version; Triton gives each a process of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        providers = providers_of(args["model_instance_kind"], args["model_instance_device_id"])
        threads = int(parameters["threads"]["string_value"])
        tower = partial(ServedZeroShot, Path(__file__).parent, providers=providers, threads=threads)
        self.tower = quietly(tower) if threads == 1 else tower()  # threads of a session keep the priority that made it

    def execute(self, requests: list[Any]) -> list[Any]:
        """The users of all requests in one run; a request that cannot be read fails alone."""
        decoded = [_decode(request) for request in requests]
        virtual = self.tower.run([user for users in decoded if isinstance(users, list) for user in users])
        responses, start = [], 0
        for users in decoded:
            if isinstance(users, pb_utils.TritonError):
                responses.append(pb_utils.InferenceResponse(error=users))
                continue
            own = virtual[start : start + len(users)]
            start += len(users)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("virtual_behaviour", own)]))
        return responses


def _decode(request: Any) -> Any:
    """The attributes of each user of a request, or a `TritonError`."""
    texts = pb_utils.get_input_tensor_by_name(request, "attributes").as_numpy()
    try:
        return [decode_object("attributes", text) for text in texts[:, 0]]
    except BadRequest as error:
        return pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
