"""What a call raises: for a request that is wrong or not allowed, for no answer in time, for one that is none."""

from foretaste.kernel.errors import ForetasteError, Unavailable
from serving.bodies import Problem


class RequestRefused(ForetasteError):
    """The service refused the request: the same one again is refused again.

    `problem` is its problem document, which names each wrong field and value; `request_id` stands in its access log.
    """

    def __init__(self, problem: Problem, request_id: str) -> None:
        self.problem = problem
        self.request_id = request_id
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")

    @property
    def status(self) -> int:
        return self.problem.status


class ServiceAway(Unavailable):
    """No answer within the deadline, or one that says to come again later.

    `problem` is the last problem document, None where there was none; `sent` says whether the last request may have
    reached the service; `after` is how many seconds it asked to wait.
    """

    def __init__(self, detail: str, *, problem: Problem | None = None, sent: bool = True, after: float = 0.0) -> None:
        super().__init__("service", detail)
        self.problem = problem
        self.sent = sent
        self.after = after


class UnreadableAnswer(ForetasteError):
    """An answer that is none of this service's: of another version of it, or of something that stands between."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"the answer cannot be read: {detail}")
