"""Every planted fault by its name."""

from collections.abc import Mapping, Sequence

from tests.simulation.planted.erasures import ERASURES
from tests.simulation.planted.fault import PlantedFault
from tests.simulation.planted.parts import POINTER, STORE
from tests.simulation.planted.serving import LOG, SERVING
from tests.simulation.planted.users import BEHAVIOURS, REENRICHMENT, SIGN_UPS
from tests.simulation.planted.workers import WORKERS

PLANTED: Mapping[str, PlantedFault] = {
    each.name: each
    for each in (*WORKERS, *BEHAVIOURS, *SIGN_UPS, *REENRICHMENT, *STORE, *POINTER, *SERVING, *LOG, *ERASURES)
}

THEMES_OF: Mapping[str, Sequence[str]] = {
    "zombies": (
        *("refusal_ignored", "behaviour_without_compare", "clock_as_version", "attributes_without_compare"),
        *("stale_slot_kept", "two_steps", "registrations_not_remembered", "place_by_offset"),
    ),
    "refreshes": (
        *("sign_ups_not_filled", "made_from_whichever", "none_lacks", "walk_goes_on", "repair_of_any_attributes"),
        *("repair_of_any_time", "pointer_without_compare", "lease_loss_unseen", "lease_of_others_given_back"),
        *("resumed_from_elsewhere", "watch_looks_on", "repair_over_filling", "repair_not_written", "slot_unchecked"),
        *("blamed_without_replay", "first_page_alone", "filling_goes_on", "in_use_retired"),
    ),
    "losses": (
        "restart_unseen",
        "idle_tail_unseen",
        "lost_tail_unseen",
        "emptied_unseen",
        "word_before_effects",
        "written_on_a_lost_tail",
    ),
    "copies": ("sign_ups_refused_lost", "outdone_with_a_copy", "claim_ignored"),
    "erasures": tuple(each.name for each in ERASURES),
    "parts": ("announce_made_alone", "announcement_lost", "rankings_not_logged", "behaviours_not_logged"),
}
"""Planted faults that are looked for first where seeds follow that theme."""
