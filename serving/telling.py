"""What a client may read of an error: the addresses and versions in its detail are for the log."""

from foretaste.kernel.errors import BadTowerOutput, ForetasteError, InvalidInput, Unavailable
from serving.active import NoneActive


def told(error: ForetasteError, part: str = "a part") -> str:
    """Which part, and what is the matter with it; `part` where the error does not name it."""
    match error:
        case NoneActive():
            return str(error)
        case Unavailable():
            return f"{error.part} is not available"
        case BadTowerOutput():
            return f"{part} answered with the wrong shape"
        case InvalidInput():
            return f"{part} refused what it was asked"
        case _:
            return f"{part} failed"
