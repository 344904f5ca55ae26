"""Several runs over one backbone: what they share is computed once.

A run whose layers below the last Dense layer are those of another, weight by weight,
needs only that layer of its own: a matrix, read from the file of its model. Neither
TensorFlow nor Keras is loaded for it.
"""

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass

import numpy as np

from keras_tl.deploy.artifact import Artifact

# What a layer's configuration holds that changes nothing of what it computes in use.
_OF_TRAINING = {"trainable", "shared_object_id", "seed", "rate", "build_config"}


@dataclass(frozen=True, eq=False)
class Head:
    """The last Dense layer of a model.

    Attributes:
        below: Hash of the input and of all layers below it, with their weights.
        kernel: float32 `(features, outputs)`.
        bias: float32 `(outputs,)`.
    """

    below: str
    kernel: np.ndarray
    bias: np.ndarray

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the logits `(count, outputs)` of embeddings `(count, features)`."""
        return embeddings @ self.kernel + self.bias


def head(model: Artifact) -> Head | None:
    """Read the head of a run's model; `None` where its last layer is no Dense layer.

    Only of plain functional models, as the recipes and `keras-tl train` save them.
    """
    with zipfile.ZipFile(model.folder / "model.keras") as archive:
        config = json.loads(archive.read("config.json"))
        content = archive.read("model.weights.h5")
    layers = config.get("config", {}).get("layers", [])
    outputs = config.get("config", {}).get("output_layers", [])
    last = layers[-1] if layers else {}
    if config.get("class_name") != "Functional" or last.get("class_name") != "Dense":
        return None
    own = last["config"]
    is_output = outputs in ([last["name"], 0, 0], [[last["name"], 0, 0]])
    if not is_output or own["activation"] != "linear" or not own["use_bias"]:
        return None
    import h5py

    with h5py.File(io.BytesIO(content)) as weights:
        # Keras numbers the layers of a class in their order.
        number = sum(layer["class_name"] == "Dense" for layer in layers) - 1
        group = weights[f"layers/dense_{number}" if number else "layers/dense"]
        digest = hashlib.sha256()
        inputs = [model.manifest["input"], _in_use(layers[:-1])]
        digest.update(json.dumps(inputs, sort_keys=True).encode())

        def add(name, item):
            if isinstance(item, h5py.Dataset) and not name.startswith(f"{group.name}/"):
                digest.update(f"{name} {item.shape} {item.dtype}".encode())
                digest.update(np.ascontiguousarray(item[()]).data)

        weights.visititems(lambda name, item: add(f"/{name}", item))
        kernel, bias = (np.asarray(group[f"vars/{n}"], "float32") for n in (0, 1))
    return Head(digest.hexdigest(), kernel, bias)


def _in_use(config):
    """Leave out of a configuration what changes nothing of what layers compute."""
    if isinstance(config, dict):
        return {k: _in_use(v) for k, v in config.items() if k not in _OF_TRAINING}
    if isinstance(config, list):
        return [_in_use(value) for value in config]
    return config
