"""One image after another through MobileNetV2: what a service would wait for."""

import functools
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.harness import Benchmark, MissingError

SIZE, IMAGES = 224, 20


def _model():
    from keras_tl.models import backbones, heads

    return heads.attach(backbones.load("mobilenet_v2", weights=None), 10)


def _images():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (IMAGES, 1, SIZE, SIZE, 3)).astype("float32")


def _one_by_one(predict):
    images = _images()

    def run():
        for image in images:
            predict(image)
        return IMAGES

    return run


def litert():
    """What `artifact.predict` uses where LiteRT is installed."""
    from keras_tl.deploy import compiled

    if not compiled.has_litert():
        raise MissingError("needs ai-edge-litert, extra export")
    with tempfile.TemporaryDirectory() as folder:
        compiled.convert(_model(), Path(folder), "")
        return _one_by_one(compiled.litert(Path(folder)))


def frozen():
    """What it uses where LiteRT is not installed."""
    from keras_tl.deploy import compiled

    return _one_by_one(compiled.frozen(_model()))


def model_predict():
    """Keras's `model.predict`."""
    return _one_by_one(functools.partial(_model().predict, verbose=0))


def saved_model():
    """The SavedModel that `model.export` writes, loaded again."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        _model().export(folder, verbose=False)
        loaded = tf.saved_model.load(folder)
    return _one_by_one(lambda image: loaded.serve(tf.constant(image)).numpy())


def onnxruntime():
    """The ONNX file that `model.export` writes, in onnxruntime."""
    try:
        import onnxruntime as library
        import tf2onnx  # noqa: F401 - model.export uses it.
    except ImportError as error:
        raise MissingError("needs onnxruntime and tf2onnx, extra bench") from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        model = _model()
        # Keras exports to ONNX only what was called once.
        model(_images()[0])
        model.export(path, format="onnx", verbose=False)
        session = library.InferenceSession(path)
    name = session.get_inputs()[0].name
    return _one_by_one(lambda image: session.run(None, {name: image}))


BENCHMARKS = {
    "one_image": Benchmark(
        title="One image at a time, MobileNetV2, 224 px",
        item="image",
        cases={
            "keras_tl, LiteRT": litert,
            "keras_tl, without LiteRT": frozen,
            "model.predict": model_predict,
            "SavedModel": saved_model,
            "onnxruntime": onnxruntime,
        },
        ours="keras_tl, LiteRT",
        at_least={"model.predict": 20, "SavedModel": 6},
        limit="0.60 GFLOP an image at the machine's matrix rate",
        seconds=1.0,
    )
}
