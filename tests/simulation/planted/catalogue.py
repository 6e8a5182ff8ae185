"""Every planted fault by its name."""

from collections.abc import Mapping

from tests.simulation.planted.fault import PlantedFault
from tests.simulation.planted.parts import POINTER, STORE
from tests.simulation.planted.serving import LOG, SERVING
from tests.simulation.planted.users import BEHAVIOURS, REENRICHMENT, SIGN_UPS
from tests.simulation.planted.workers import WORKERS

PLANTED: Mapping[str, PlantedFault] = {
    each.name: each for each in (*WORKERS, *BEHAVIOURS, *SIGN_UPS, *REENRICHMENT, *STORE, *POINTER, *SERVING, *LOG)
}
