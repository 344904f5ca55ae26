"""Fine-tuning by blocks: one more in each stage, at rates that fall, or as fastai does.

BatchNormalization stays frozen throughout, see `models.freezing`.
"""

import functools

import keras

from keras_tl import errors
from keras_tl.data.splits import Splits
from keras_tl.models import freezing
from keras_tl.training import optimizers, phases, schedules


def unfreeze_gradually(
    model: keras.Model,
    splits: Splits,
    setup: phases.Setup,
    pattern: str,
    *,
    blocks: int,
    epochs: int = 1,
    learning_rate: float = 1e-4,
    decay: float = 1 / 2.6,
    optimizer: str = "adam",
    phase: str = "",
    first_epoch: int = 0,
) -> dict[str, phases.History]:
    """Unfreeze one block more in each stage, from the top, and train after each.

    Fit the head before: its random weights would spoil the first block. A stage leaves
    the weights of its best epoch, also where those it began with were better: a block
    that begins to train often costs a little before it pays. To train on with all of
    them, until validation finds no better, call `fine_tune_blocks` behind it.

    Args:
        model: A classifier on a backbone.
        splits: Its data.
        setup: What the phases have in common.
        pattern: Regular expression whose first group names a layer's block, such as
            `backbones.find("vgg16").block`.
        blocks: Number of stages, and of blocks that train in the last one.
        epochs: Most epochs of each stage.
        learning_rate: Largest rate of the head, in each stage.
        decay: Factor of the rate from block to block, in (0, 1].
        optimizer: A name that `optimizers.layerwise` takes.
        phase: What the names of the stages begin with. A second call with the same
            `setup.state` needs another, or it finds the first one's stages finished.
        first_epoch: See `phases.fit_head`. Each stage goes on where the one before it
            would have ended.

    Returns:
        Name of the stage -> history.

    Raises:
        InputError: A value out of range, or what `phases.fit_head` raises.

    Reference:
        Howard and Ruder, "Universal language model fine-tuning", 2018,
        arXiv:1801.06146, section 3.3.
    """
    errors.check_at_least("blocks", blocks, 1)
    histories = {}
    for count in range(1, blocks + 1):
        freezing.unfreeze_blocks(model, count, pattern)
        last = "last block" if count == 1 else f"last {count} blocks"
        name = f"{phase} {last}".strip()
        # Not `fine_tune`, which would take back what a stage of one epoch has learned.
        histories[name] = phases.fit_head(
            model,
            splits,
            setup,
            epochs=epochs,
            learning_rate=learning_rate,
            optimizer=_falling(model, pattern, decay, optimizer),
            phase=name,
            first_epoch=first_epoch + (count - 1) * epochs,
        )
    return histories


def fine_tune_blocks(
    model: keras.Model,
    splits: Splits,
    setup: phases.Setup,
    pattern: str,
    *,
    blocks: int,
    epochs: int,
    learning_rate: float = 1e-4,
    decay: float = 1 / 2.6,
    optimizer: str = "adam",
    patience: int = 3,
    phase: str = "fine-tuning",
    first_epoch: int = 0,
) -> phases.History:
    """Train the last blocks together, with rates that fall towards the input.

    Args:
        model: A classifier on a backbone, whose head is fitted.
        splits: Its data.
        setup: What the phases have in common.
        pattern: See `unfreeze_gradually`.
        blocks: Number of blocks that train, from the output back.
        epochs: Most epochs.
        learning_rate: Largest rate of the head.
        decay: Factor of the rate from block to block, in (0, 1]; 1 is one rate for all.
        optimizer: A name that `optimizers.layerwise` takes.
        patience: See `phases.fit_head`.
        phase: Name of the phase. A second call with the same `setup.state` needs
            another, or it finds the first one finished.
        first_epoch: See `phases.fit_head`.

    Raises:
        InputError: A value out of range, or what `phases.fine_tune` raises.

    Reference:
        Howard and Ruder, 2018, arXiv:1801.06146, section 3.2.
    """
    freezing.unfreeze_blocks(model, blocks, pattern)
    return phases.fine_tune(
        model,
        splits,
        setup,
        epochs=epochs,
        learning_rate=learning_rate,
        optimizer=_falling(model, pattern, decay, optimizer),
        patience=patience,
        phase=phase,
        first_epoch=first_epoch,
    )


def _falling(model, pattern, decay, name):
    factors = optimizers.by_block(model, pattern, decay)
    return functools.partial(optimizers.layerwise, name, factors=factors)


def fit_and_fine_tune(
    model: keras.Model,
    splits: Splits,
    setup: phases.Setup,
    pattern: str,
    *,
    epochs: int,
    head_epochs: int = 1,
    learning_rate: float = 2e-3,
    spread: float = 100.0,
) -> dict[str, phases.History]:
    """Fit the head, then train everything with rates that fall towards the input.

    fastai's `fine_tune` with its numbers: a cycle for the head at the full rate; then
    all layers, the head at half of it, the first block at a `spread`-th of that, the
    blocks between in equal factors.

    Args:
        model: A backbone with a head of `heads`; nothing has to be frozen before.
        splits: Its data.
        setup: What the phases have in common.
        pattern: See `unfreeze_gradually`.
        epochs: Most epochs of fine-tuning.
        head_epochs: Most epochs of the head alone.
        learning_rate: Largest rate of the head, in its own phase.
        spread: How many times smaller the rate of the first block is, at least 1.

    Returns:
        Phase -> history.

    Raises:
        InputError: A value out of range, or what the phases raise.

    Reference:
        https://docs.fast.ai/callback.schedule.html, `Learner.fine_tune`.
    """
    errors.check_at_least("spread", spread, 1)
    freezing.unfreeze_head(model)
    head = phases.fit_head(
        model,
        splits,
        setup,
        epochs=head_epochs,
        learning_rate=learning_rate,
        schedule=schedules.one_cycle(rise=0.99),
    )
    freezing.unfreeze(model)
    steps = len(freezing.blocks(model, pattern))
    decay = spread ** (-1 / steps)
    tuned = phases.fine_tune(
        model,
        splits,
        setup,
        epochs=epochs,
        learning_rate=learning_rate / 2,
        schedule=schedules.one_cycle(rise=0.3, start=5.0),
        optimizer=_falling(model, pattern, decay, "adam"),
        first_epoch=head_epochs,
    )
    return {"head": head, "fine-tuning": tuned}
