"""How the towers are trained: every number that a run depends on, and what it runs on."""

from dataclasses import asdict, field, replace
from typing import Annotated, Any, Literal, TypeAlias

import pydantic.dataclasses
import torch
from pydantic import Field, NonNegativeInt, PositiveInt

from foretaste.kernel.configuration import NO_OTHER_FIELDS, NonNegativeFloat, ShareBelowOne, raises_invalid_input
from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.values import MAX_BEHAVIOUR
from models.effects.fit import EffectsConfig
from models.towers.architecture import Architecture
from models.towers.registry import FITTED

Device: TypeAlias = Literal["cpu", "cuda", "auto"]
Masked: TypeAlias = Literal["rows", "users", "nobody"]
Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]


UNLEARNED = (*FITTED, "absent")
"""Zero-shot towers that need no hidden behaviour to learn from."""


@raises_invalid_input
@pydantic.dataclasses.dataclass(frozen=True, slots=True, config=NO_OTHER_FIELDS)
class TrainingConfig:
    """How the towers are trained; the comments tell what the paper does."""

    architecture: Architecture = field(default_factory=Architecture)
    effects: EffectsConfig = field(default_factory=EffectsConfig)
    """How the codes of the zero-shot towers `FITTED` are fitted; not read for another."""
    warm_after: Annotated[int, Field(ge=1, le=MAX_BEHAVIOUR)] = 20
    """Behaviours after which a user is warm, 1 to 100 (= L); the paper's flag (eq. 9) is 1."""
    zero_shot_rate: NonNegativeFloat = 0.001
    """Learning rate of the zero-shot optimiser; 0.001 in the paper."""
    ranking_rate: NonNegativeFloat = 0.003
    """Of the ranking optimiser, which owns the embeddings; 0.001 in the paper, which takes far more steps."""
    batch: Annotated[int, Field(ge=2)] = 4096
    """Rows a step, about; 1024 in the paper, which takes longer for the same."""
    epochs: PositiveInt = 2
    least_steps: PositiveInt = 500
    """More epochs are taken until there are so many steps: small data need more passes."""
    most_epochs: PositiveInt = 10
    """How many `least_steps` may ask for: the smallest data would be learned by heart."""
    rows: Annotated[int, Field(ge=2)] | None = None
    """Rows an epoch, drawn at random anew each time; None: all."""
    negatives: PositiveInt = 4
    """Sampled for each positive where the data have no labels of their own."""
    masked: Masked | None = None
    """Whose behaviour is hidden in training: random moments', as in the paper all of random users', or nobody's. None:
    random moments' where the zero-shot tower learns from the ranking tower's table, else nobody's."""
    masked_share: ShareBelowOne = 0.4
    unknown_share: ShareBelowOne = 0.01
    """Of known values, made unknown at random so that unknown's embeddings are learned."""
    zero_shot_users: PositiveInt | None = 32
    """Warm moments of a batch that take part in L_zst, drawn at random; None: all, as in the paper."""
    seed: NonNegativeInt = 0
    device: Device = "auto"
    precision: Precision = "auto"
    """Of the ranking tower's products; auto: bfloat16 where the device has units for it (a GPU, or a CPU with
    AMX), else float32. L_zst, the optimisers and what is exported are float32 always."""
    threads: PositiveInt | None = None
    """Of torch on the CPU; None: half the cores. Its threads spin while they wait for each other, so that more of them
    than free cores slow a step down several times. Another number may change the last bits of a result."""

    @property
    def hides(self) -> Masked:
        """Whose behaviour is hidden, None resolved."""
        if self.masked is not None:
            return self.masked
        return "nobody" if self.architecture.zero_shot in UNLEARNED else "rows"

    def with_dropout(self, share: float) -> "TrainingConfig":
        """The configuration with another share of the ranking tower dropped."""
        return replace(self, architecture=replace(self.architecture, dropout=share))

    def with_epochs(self, epochs: int) -> "TrainingConfig":
        """The configuration with exactly so many epochs, however few steps these are."""
        return replace(self, epochs=epochs, least_steps=1)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON keeps it."""
        return asdict(self)


def precision_of(name: Precision, device: torch.device) -> torch.dtype:
    """The type in which the ranking tower's products are computed on this device."""
    if name == "auto":
        fast = device.type != "cpu" or bool(torch.cpu.get_capabilities().get("amx_bf16", False))
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def device_of(name: Device) -> torch.device:
    """The device of this name. Raises `InvalidInput` for a GPU that is not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InvalidInput("device", name, "this machine has no GPU that torch can use")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
