"""Settings of training that recipes have in common; nothing heavy is imported here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from keras_tl import errors
from keras_tl.config import Settings

ChooseBy = Literal["loss", "accuracy", "last"]
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
Precision = Literal["float32", "mixed_bfloat16", "mixed_float16", "auto"]
STRATEGIES = ("auto", "mirrored", "multiworker")
Strategy = Literal["auto", "mirrored", "multiworker"]


@dataclass(frozen=True)
class CacheSettings(Settings):
    """Setting of the features that are kept on disk; see `store`."""

    cache: bool = True  # Keep features of frozen layers on disk, for later runs.


@dataclass(frozen=True)
class StartSettings(Settings):
    """Setting of a run that goes on from another; see `artifact.copy_weights`."""

    start_from: Path | None = None  # Finished run whose model trains on.

    @property
    def before_tuning(self) -> str:
        """Name in the results of the model whose fine-tuning is to begin.

        Of a finished run the backbone may be fine-tuned already.
        """
        return "frozen" if self.start_from is None else "head trained on"

    def __post_init__(self):
        super().__post_init__()
        if self.start_from is None:
            return
        if not (Path(self.start_from) / "manifest.json").exists():
            raise errors.expected(
                "start_from", "name the folder of a finished run", str(self.start_from)
            )


@dataclass(frozen=True)
class TrainingSettings(CacheSettings):
    """Settings of all phases of a run; see `phases.setup`."""

    # Examples per step, over all devices, and a multiple of their number.
    batch_size: int = 32
    precision: Precision = "float32"  # Numbers that layers compute with.
    # Devices: all GPUs of this machine, or of all machines that TF_CONFIG names.
    strategy: Strategy = "auto"
    choose_by: ChooseBy = "loss"  # Validation metric that selects the epoch.
    class_weights: bool = False  # Weight all classes equally in the training loss.
    tensorboard: bool = False  # Write event files for TensorBoard.

    def __post_init__(self):
        super().__post_init__()
        errors.check_at_least("batch_size", self.batch_size, 1)
        if self.tensorboard:
            errors.check_installed("tensorboard", extra="tensorboard")
