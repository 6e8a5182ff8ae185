"""Triton's way into the index of a version: tensors in, items out. It is `models/runtime/retrieval.py` beside it."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

sys.path.insert(0, str(Path(__file__).parent))  # the `models` package of this very version

from models.runtime.priority import quietly
from models.runtime.refusals import BadRequest, check_vocabulary, vocabulary_of
from models.runtime.retrieval import ServedRetrieval

INPUTS = ("behaviour", "virtual_behaviour", "wanted", "filters", "vocabulary")


class TritonPythonModel:
    """One instance of one version; Triton gives each a process of its own."""

    def initialize(self, _args: dict[str, str]) -> None:
        folder = Path(__file__).parent
        self.retrieval = quietly(partial(ServedRetrieval, folder))  # other versions answer meanwhile
        self.vocabulary = vocabulary_of(folder)

    def execute(self, requests: list[Any]) -> list[Any]:
        """The candidates that each request asks for; one that cannot be taken fails alone."""
        return [self._answer(each) for each in requests]

    def _answer(self, request: Any) -> Any:
        *asked, vocabulary = (pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in INPUTS)
        try:
            check_vocabulary(vocabulary, self.vocabulary)
            self.retrieval.check(*asked)
        except BadRequest as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))
        return pb_utils.InferenceResponse([pb_utils.Tensor("candidates", self.retrieval.run(*asked))])
