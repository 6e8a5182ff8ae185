"""What must hold of the pointer, of what is loaded and filled, and of the lease of a refresh, at every step."""

import json
from typing import TYPE_CHECKING

from foretaste.kernel.generations import Move, slot
from tests.simulation.parts.loop import PROCESS
from tests.simulation.parts.towers import POISON

if TYPE_CHECKING:
    from tests.simulation.invariants import Invariants
    from tests.simulation.system import System

SETTLED = 3.0
"""Seconds after the last fault from which nothing is late any more."""
RENEWED = 2.0
"""Seconds after the last fault from which a process that lost its lease must have stopped."""
IN_FLIGHT = 0.4
"""Seconds between the writes of one sign-up, once the system is calm."""
UNAWARE = 2.0
"""Seconds from the begin of filling for which a sign-up may know nothing of it."""


class PointerInvariants:
    """Numbers 5 to 7 of `Invariants`, whose `users` tells what is stored of users."""

    def __init__(self, system: "System", users: "Invariants") -> None:
        self._system, self._users = system, users
        self._redis, self._world = system.redis, system.world
        self.filling_since = 0.0
        self.in_use_since: dict[int, float] = {}
        self._holder: object | None = None
        """Of the lease, when somebody last did something about it."""
        self._walks: dict[int, tuple[int, float, float]] = {}
        """By generation: the walk that goes on, since when at least, and when something was last heard of it."""
        self._redis.pointed, self._redis.walked = self.pointed, self.walked
        system.triton.unloading = self.unloading

    def restored(self) -> None:
        """The store lost something."""
        self._holder = self._redis.board.holder("refresh")

    def pointed(self, what: str) -> None:
        """Something about generations or the lease changed."""
        held = self._redis.generations
        used = {each for each in (held._active, held._filling, held._previous) if each is not None}
        self._world.expect(used <= set(held._records), "a generation in use is not recorded any more", what, used)
        active, filling = held._active, held._filling
        if active is not None and filling is not None and active != filling:
            self._world.expect(slot(active) != slot(filling), "two generations in use share a slot", active, filling)
        if what.startswith("lease"):
            self._check_given_back(what)
        if what.startswith("activate"):
            self._check_move(what)
        now = self._world.loop.time()
        self.in_use_since = {each: self.in_use_since.get(each, now) for each in (active, filling) if each is not None}
        if what.startswith("fill"):
            self.filling_since = self._world.loop.time()
        if not what.startswith("lease"):
            self._check_lease(what)

    def _check_move(self, what: str) -> None:
        held, triton = self._redis.generations, self._system.triton
        active, filling = held._active, held._filling
        shares = filling is not None and active is not None and slot(filling) == slot(active)
        self._world.expect(not shares, "what fills goes on after the swap", active, filling)
        self._world.expect(active is None or active in triton.loaded, "the pointer moved to what does not answer", what)
        moves = held._moves
        if len(moves) > 1:
            whole = moves[0].came_from == moves[1].number
            self._world.expect(whole, "the pointer moved from where it did not stand", moves[:2])
        if moves and moves[0].number == active:
            self._check_blame(moves[0])
        if moves and moves[0].number == active and moves[0].filled:
            self._check_filled(active)

    def _check_given_back(self, what: str) -> None:
        holder, process = self._redis.board.holder("refresh"), PROCESS.get()
        before, self._holder = self._holder, holder
        if what == "lease give back" and process is not None and before is not self._system.leases.get(process):
            expired = holder is None and self._redis.board.held.get("refresh") is not None
            kept = before is None or holder is before or expired
            self._world.expect(kept, "a lease of another was given back by", process.name)

    def walked(self, generation: int, state: str) -> None:
        """A walk of a re-enrichment has come further: the next one begins after the last word of the one before."""
        walk, now = json.loads(state)["round"], self._world.loop.time()
        known = self._walks.get(generation)
        if known is None or known[0] > walk:
            self._walks[generation] = (walk, 0.0, now)
        elif known[0] == walk:
            self._walks[generation] = (walk, known[1], now)
        else:
            self._walks[generation] = (walk, max(known[2], self._redis.handled_at), now)

    def unloading(self, generation: int) -> None:
        if self._system.lost_something:  # its retirement, too
            return
        held = self._redis.generations
        self._world.expect(
            generation not in (held._active, held._filling, held._previous),
            "a generation in use was unloaded",
            generation,
        )

    def _check_filled(self, number: int) -> None:
        """At the moment of the swap. Excused is what was written just now, and what no tower answers for."""
        system, now = self._system, self._world.loop.time()
        if system.lost_something:
            return
        walked = self._walks.get(number)
        since = walked[1] if walked is not None and walked[0] else None
        if since is None and not system.quiet_for(SETTLED):
            return
        generation = self._redis.generations._records[number]
        for user_id, (_, attributes) in self._redis.online._attributes.items():
            lacks = generation.lacks(self._users.features(user_id, number))
            written = self._users.written_at.get(user_id, 0.0)
            fresh = now - written < IN_FLIGHT or 0 <= written - self.filling_since < UNAWARE
            if since is not None:
                fresh = written >= since
            if lacks and not fresh and POISON not in attributes:
                self._world.violated(f"generation {number} took over as filled, and {user_id} lacks it")

    def _check_blame(self, move: Move) -> None:
        """The watch goes back from a generation that answers badly, and not for the faults of a part."""
        process = PROCESS.get()
        if process is None or process.name != "watch" or self._system.plan.has("triton flaky"):
            return
        if self._system.plan.has("triton hangs", "triton away") and not self._system.quiet_for(SETTLED):
            return  # the one that it asked first was asked before Triton was back
        fair = move.came_from is None or self._system.triton.is_bad(move.came_from) or "failures" not in move.reason
        self._world.expect(fair, "a good generation was rolled back", move)

    def _check_lease(self, what: str) -> None:
        process = PROCESS.get()
        if process is None or not process.name.startswith("refresh") or not self._system.quiet_for(RENEWED):
            return
        holder = self._redis.board.holder("refresh")
        self._world.expect(
            holder is self._system.leases.get(process), "a refresh goes on without its lease:", process.name, what
        )
