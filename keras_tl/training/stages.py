"""Fine-tuning by blocks: gradual unfreezing, and learning rates that fall by block.

BatchNormalization stays frozen throughout, see `models.freezing`.
"""

from dataclasses import replace

import keras

from keras_tl import errors
from keras_tl.data.splits import Splits
from keras_tl.models import freezing
from keras_tl.training import optimizers, phases, schedules


def unfreeze_gradually(
    model: keras.Model,
    splits: Splits,
    setup: phases.Setup,
    phase: phases.Phase,
    *,
    blocks: int,
    decay: float = 1 / 2.6,
    optimizer: str = "adam",
) -> dict[str, phases.History]:
    """Unfreeze one more block in each stage, from the output back, and train.

    Fit the head first: its random weights would spoil the first block. A stage keeps
    the weights of its best epoch, even where those it began with were better: a block
    that begins to train often costs a little accuracy before it gains some. To train
    all of them further, until validation improves no more, call `fine_tune_blocks`
    afterwards.

    Args:
        model: A classifier on a backbone.
        splits: Its data.
        setup: Settings that all phases share.
        phase: Epochs of each stage and largest learning rate of the head. Its name is
            the prefix of the names of the stages; a second call with the same
            `setup.state` needs another one. Each stage continues where the one before
            it would have ended, from `first_epoch` on.
        blocks: Number of stages, and of blocks that train in the last one.
        decay: Factor of the learning rate from block to block, in (0, 1].
        optimizer: A name that `optimizers.layerwise` takes.

    Returns:
        Name of the stage -> history.

    Raises:
        InputError: A value out of range, or what `phases.fit` raises.

    Reference:
        Howard and Ruder, "Universal language model fine-tuning", 2018,
        arXiv:1801.06146, section 3.3.
    """
    errors.check_at_least("blocks", blocks, 1)
    histories = {}
    for count in range(1, blocks + 1):
        freezing.unfreeze_blocks(model, count)
        last = "last block" if count == 1 else f"last {count} blocks"
        stage = replace(
            phase,
            name=f"{phase.name} {last}".strip(),
            optimizer=_by_block(model, decay, optimizer),
            first_epoch=phase.first_epoch + (count - 1) * phase.epochs,
            # Otherwise a stage of one epoch might be undone.
            keep_start=False,
        )
        histories[stage.name] = phases.fit(model, splits, setup, stage)
    return histories


def fine_tune_blocks(
    model: keras.Model,
    splits: Splits,
    setup: phases.Setup,
    phase: phases.Phase,
    *,
    blocks: int,
    decay: float = 1 / 2.6,
    optimizer: str = "adam",
) -> phases.History:
    """Train the last blocks together, with learning rates that fall towards the input.

    Args:
        model: A classifier on a backbone, whose head is fitted.
        splits: Its data.
        setup: Settings that all phases share.
        phase: Length, name and largest learning rate, that of the head; such as
            `phases.fine_tuning` returns.
        blocks: Number of blocks that train, from the output back.
        decay: Factor of the learning rate from block to block, in (0, 1]; 1 is one
            rate for all.
        optimizer: A name that `optimizers.layerwise` takes.

    Raises:
        InputError: A value out of range, or what `phases.fit` raises.

    Reference:
        Howard and Ruder, 2018, arXiv:1801.06146, section 3.2.
    """
    freezing.unfreeze_blocks(model, blocks)
    falling = replace(phase, optimizer=_by_block(model, decay, optimizer))
    return phases.fit(model, splits, setup, falling)


def _by_block(model, decay, name):
    return optimizers.layerwise(name, optimizers.by_block(model, decay))


def fit_and_fine_tune(
    model: keras.Model,
    splits: Splits,
    setup: phases.Setup,
    *,
    epochs: int,
    head_epochs: int = 1,
    learning_rate: float = 2e-3,
    spread: float = 100.0,
) -> dict[str, phases.History]:
    """Fit the head, then train all layers with rates that fall towards the input.

    fastai's `fine_tune` with its numbers: one cycle for the head at the full learning
    rate; then all layers, the head at half of it, the first block at a `spread`-th of
    that, the blocks between at equal factors.

    Args:
        model: A backbone with a head of `heads`; nothing has to be frozen before.
        splits: Its data.
        setup: Settings that all phases share.
        epochs: Most epochs of fine-tuning.
        head_epochs: Most epochs of the head alone.
        learning_rate: Largest learning rate of the head, in its own phase.
        spread: Ratio of the learning rates of the head and of the first block, at
            least 1.

    Returns:
        Phase -> history.

    Raises:
        InputError: A value out of range, or what the phases raise.

    Reference:
        https://docs.fast.ai/callback.schedule.html, `Learner.fine_tune`.
    """
    errors.check_at_least("spread", spread, 1)
    freezing.unfreeze_head(model)
    rising = schedules.one_cycle(rise=0.99)
    head = phases.Phase(head_epochs, learning_rate, rising)
    histories = {"head": phases.fit(model, splits, setup, head)}
    freezing.unfreeze(model)
    decay = spread ** (-1 / len(freezing.blocks(model)))
    tuning = phases.fine_tuning(
        epochs,
        learning_rate / 2,
        schedule=schedules.one_cycle(rise=0.3, start=5.0),
        optimizer=_by_block(model, decay, "adam"),
        first_epoch=head_epochs,
    )
    histories["fine-tuning"] = phases.fit(model, splits, setup, tuning)
    return histories
