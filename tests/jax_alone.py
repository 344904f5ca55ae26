"""The core on JAX where TensorFlow cannot be imported; run as a script.

`models`, `methods`, `training.features`, `training.optimizers` and `analysis` are
written on Keras and numpy: a frozen stem runs once, a head is fitted to its features
with a rate of its own and held to its start, the whole is evaluated and drawn.
"""

import importlib.util
import os
import sys
import tempfile
from pathlib import Path


class Blocked:
    """Makes TensorFlow impossible to import where it is installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tensorflow":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def main():
    os.environ["KERAS_BACKEND"] = "jax"
    if importlib.util.find_spec("tensorflow"):
        sys.meta_path.insert(0, Blocked())

    import keras
    import numpy as np

    from keras_tl.analysis import evaluation, figures
    from keras_tl.data.splits import Split
    from keras_tl.methods import regularizers
    from keras_tl.models import backbones, freezing, heads, splitting
    from keras_tl.training import features, optimizers, store

    assert keras.backend.backend() == "jax"
    keras.utils.set_random_seed(0)
    backbone = backbones.load("efficientnet_lite0", image_size=96)
    freezing.freeze(backbone)
    model = heads.attach(backbone, 3)
    stem, tail = splitting.split_at(model, splitting.frozen_cut(model)[1])

    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    pixels = rng.integers(0, 100, (60, 96, 96, 3))
    pixels[np.arange(60), :, :, labels] += 100
    split = Split(pixels.astype("uint8"), labels)
    with tempfile.TemporaryDirectory() as folder:
        first, again = store.Cache(Path(folder)), store.Cache(Path(folder))
        kept = features.extract(stem, split, cache=first)
        found = features.extract(stem, split, cache=again)
    assert (first.made, again.found) == (60, 60)
    np.testing.assert_array_equal(kept.images, found.images)

    held = regularizers.l2_sp(alpha=0.01, beta=1e-4)(tail)
    held.compile(
        optimizer=optimizers.layerwise("adam", 0.02, {"logits": 0.5}),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    held.fit(kept.images, kept.labels, epochs=20, verbose=0)
    logits = evaluation.predict(model, split)
    result = evaluation.evaluate(labels, logits, ("red", "green", "blue"))
    assert result.accuracy > 0.9, result.accuracy
    figures.confusion(result)
    assert "tensorflow" not in sys.modules


if __name__ == "__main__":
    main()
