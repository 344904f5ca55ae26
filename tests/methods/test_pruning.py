"""Pruned weights are the smallest ones, and stay zero while the others train."""

import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.methods import pruning
from keras_tl.models import heads
from keras_tl.training import phases


def wide(image_size=8):
    """A model with two kernels that are large enough, and others that are not."""
    keras.utils.set_random_seed(0)
    image = keras.Input((image_size, image_size, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(image)
    x = keras.layers.Conv2D(16, 3, name="small")(x)
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = keras.layers.Conv2D(64, 1, name="large")(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.Conv2D(16, 1, name="larger")(x)
    return heads.attach(keras.Model(image, x), 3)


def test_the_smallest_weights_of_each_kernel_become_zero():
    model = wide()
    before = {w.path: w.numpy() for w in model.weights}
    pruning.prune(model, 0.25)
    for name in ("large", "larger"):
        kernel = model.get_layer(name).kernel
        old, new = before[kernel.path], kernel.numpy()
        assert (new == 0).mean() == 0.25
        assert np.abs(old[new == 0]).max() <= np.abs(old[new != 0]).min()
        np.testing.assert_array_equal(new[new != 0], old[new != 0])
    others = [w for w in model.weights if not w.path.startswith("large")]
    for weight in others:
        np.testing.assert_array_equal(weight.numpy(), before[weight.path])


def test_pruned_weights_stay_zero_in_training_and_others_move(colours, here):
    model = wide()
    model.trainable = True
    pruning.prune(model, 0.5)
    before = model.get_layer("large").kernel.numpy()
    phases.fit(model, colours, here, phases.Phase(3, 1e-2))
    after = model.get_layer("large").kernel.numpy()
    assert (after[before == 0] == 0).all()
    assert (after[before != 0] != before[before != 0]).mean() > 0.9
    # More can be pruned then, and what was zero stays so.
    pruning.prune(model, 0.75)
    assert pruning.sparsity_of(model) == 0.75
    assert (model.get_layer("large").kernel.numpy()[before == 0] == 0).all()
    pruning.release(model)
    phases.fit(model, colours, here, phases.Phase(2, 1e-2))
    assert pruning.sparsity_of(model) < 0.1


def test_sparsity_rises_as_the_paper_has_it():
    np.testing.assert_allclose(
        pruning.schedule(0.8, 4), [0.4625, 0.7, 0.7875, 0.8], rtol=1e-12
    )


def test_what_cannot_be_pruned_is_said():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(errors.InputError, match="no kernel"):
        pruning.prune(model, 0.5)
    for wrong in (-0.1, 1.0, float("nan")):
        with pytest.raises(errors.InputError, match=r"be in \[0, 1\)"):
            pruning.prune(wide(), wrong)
