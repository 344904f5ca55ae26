import keras
import numpy as np

from keras_tl.models import heads
from keras_tl.training import phases, speed


def test_the_speed_is_measured_and_the_model_is_as_it_was(make_backbone, colours, here):
    keras.utils.set_random_seed(0)
    model = heads.attach(make_backbone(), 3)
    optimizer = keras.optimizers.Adam(0.5)
    model.compile(optimizer, "mse")
    before = [variable.numpy() for variable in model.variables]
    measured = speed.measure(model, colours, here, phases.Phase(3))
    assert min(measured.start, measured.train, measured.evaluate) > 0
    assert model.optimizer is optimizer
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
