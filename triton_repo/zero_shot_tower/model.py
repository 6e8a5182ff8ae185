"""Triton's way into the zero-shot tower: tensors in, tensors out. The tower is `models/runtime/towers.py` beside it."""

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

from models.runtime.refusals import BadRequest, check_vocabulary, vocabulary_of  # noqa: E402  # after the import above
from models.runtime.towers import ServedZeroShot, providers_of, run_together  # noqa: E402  # after the import above


class TritonPythonModel:
    """One instance of one version; Triton gives each a process of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        providers = providers_of(args["model_instance_kind"], args["model_instance_device_id"])
        threads = int(parameters["threads"]["string_value"])
        folder = Path(__file__).parent
        tower = partial(ServedZeroShot, folder, providers=providers, threads=threads)
        self.tower = quietly(tower) if threads == 1 else tower()  # threads of a session keep the priority that made it
        self.vocabulary = vocabulary_of(folder)

    def execute(self, requests: list[Any]) -> list[Any]:
        """The users of all requests in one run; a request that cannot be taken fails alone."""
        return [_response(answer) for answer in run_together([self._read(each) for each in requests], self._run)]

    def _read(self, request: Any) -> Any:
        """The encoded attributes (B, N), or a `BadRequest`."""
        attributes, vocabulary = (
            pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in ("attributes", "vocabulary")
        )
        try:
            check_vocabulary(vocabulary, self.vocabulary)
            self.tower.check(attributes)
        except BadRequest as error:
            return error
        return attributes

    def _run(self, batches: list[Any]) -> list[Any]:
        return np.split(self.tower.run(np.concatenate(batches)), np.cumsum([len(each) for each in batches])[:-1])


def _response(answer: Any) -> Any:
    if isinstance(answer, BadRequest):
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(answer), pb_utils.TritonError.INVALID_ARG))
    return pb_utils.InferenceResponse([pb_utils.Tensor("virtual_behaviour", answer)])
