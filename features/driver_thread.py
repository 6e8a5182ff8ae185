"""A thread for a driver that may hang: the process can end though its call never returns."""

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


class DriverThread:
    """Carries calls out one after the other, in the order in which they were submitted.

    A daemon thread: an interpreter that ends waits for those of a `ThreadPoolExecutor`, for ever where one hangs.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        """Until `end` was called and all calls returned."""
        return self._thread.is_alive()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """What it returns or raises. A call that is cancelled before its turn is left out."""
        future: Future[T] = Future()
        self._calls.put((future, call))
        return future

    def end(self) -> None:
        """The thread ends once the calls that were submitted have returned; nothing is waited for."""
        self._calls.put(None)

    def _run(self) -> None:
        while self._carried_out(self._calls.get()):
            pass

    @staticmethod
    def _carried_out(submitted: tuple[Future[Any], Callable[[], Any]] | None) -> bool:
        """Whether there is more to come."""
        if submitted is None:
            return False
        future, call = submitted
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001  # raised where the call is waited for
                future.set_exception(error)
        return True
