"""Run the frozen part of a model once, and keep its features."""

import functools
import hashlib
import json
import math
import shutil
import sys
import time
import types
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from keras_tl import errors, progress
from keras_tl.data.sources import Source, Stored
from keras_tl.data.splits import Split, Splits
from keras_tl.training import code, store, workers

if TYPE_CHECKING:
    import keras


def extract(
    stem: "keras.Model",
    split: Split,
    *,
    cache: store.Cache | None = None,
    batch_size: int = 64,
    title: str = "features",
) -> Split:
    """Run `stem` over a split, once for each example.

    Args:
        stem: Functional model from the split's examples to one tensor of features.
        split: The examples.
        cache: Where features are kept for later runs and looked up: by the content of
            the example and by all that the stem's output depends on, see `fingerprint`.
            `None` keeps nothing.
        batch_size: Examples per step; every step has this many, so that nothing is
            traced twice. Where the memory is too small for them, they are halved, with
            a warning; the features are the same.
        title: Name of the progress display.

    Returns:
        The split with features as its inputs: an array `(count, ...)` in memory where
        it fits, else rows of the cache, which stay on disk until they are read.

    Raises:
        InputError: Neither memory nor cache has room for the features.
    """
    errors.check_at_least("batch_size", batch_size, 1)
    errors.check_at_least("len(split)", len(split), 1)
    if workers.current() is not None:
        return _extract_together(stem, split, cache, batch_size, title)
    return _extract_alone(stem, split, cache, batch_size, title)


def _extract_together(stem, split, cache, batch_size, title):
    """Run `stem` over a share of the examples, and get those of the other workers."""
    own, started = split.take(workers.share(len(split))), time.perf_counter()
    values = None
    if len(own):
        extracted = _extract_alone(stem, own, cache, batch_size, title)
        values = extracted.read(range(len(own)))
    workers.warn_of_slow(time.perf_counter() - started, title)
    return _as_features(split, workers.concatenate(values))


def _extract_alone(stem, split, cache, batch_size, title):
    in_memory = _fits_in_memory(stem, len(split))
    if cache is not None and _fits_on_disk(stem, len(split), cache):
        try:
            return _extract_cached(stem, split, cache, batch_size, title, in_memory)
        except (OSError, errors.InputError) as error:
            if not in_memory:
                raise
            reason = errors.reason(error)
            if isinstance(error, OSError):
                reason = f"{cache.folder}: {error.strerror}"
            errors.warn(
                f"The cache of features cannot be used ({reason}): they are computed "
                "in memory instead. `--no-cache` does so from the start."
            )
    if not in_memory:
        raise _no_room(stem, len(split))
    return _as_features(split, _run_all(stem, split.inputs, batch_size, title))


def _extract_cached(stem, split, cache, batch_size, title, in_memory):
    """Run `stem` over the examples that are not in the cache, and read the others."""
    store.check_usable(cache.folder)
    kept = store.Store(
        cache.folder,
        fingerprint(stem),
        stem.outputs[0].shape[1:],
        stem.outputs[0].dtype,
        about=f"{stem.name.removesuffix('_stem')} to {stem.layers[-1].name}",
        input_shape=stem.inputs[0].shape[1:],
    )
    before, started = len(kept), time.perf_counter()
    rows = kept.rows(_run_new(stem, split.inputs, kept, batch_size, title))
    cache.made += len(kept) - before
    cache.found += len(split) - (len(kept) - before)
    values = rows[:] if in_memory else rows
    cache.seconds += time.perf_counter() - started
    return _as_features(split, values)


def extract_all(
    stem: "keras.Model", splits: Splits, *, cache: store.Cache | None = None
) -> Splits:
    """Run `stem` over all three splits. See `extract`.

    Raises:
        InputError: Neither memory nor cache has room for the features of all three;
            nothing has been run then.
    """
    count = sum(len(split) for _, split in splits.items())
    if not has_room(stem, count, cache):
        raise _no_room(stem, count)
    extracted = {
        name: extract(stem, split, cache=cache, title=f"features, {name}")
        for name, split in splits.items()
    }
    return replace(splits, **extracted)


def run(
    model: "keras.Model",
    inputs: Source,
    batch_size: int = 64,
    title: str = "predicting",
) -> np.ndarray:
    """Run a model over a source, in order, into memory; see `extract` for more.

    Batches for which the memory is too small are halved, with a warning.

    Returns:
        Outputs of the model, `(len(inputs), ...)`.
    """
    errors.check_at_least("batch_size", batch_size, 1)
    errors.check_at_least("len(inputs)", len(inputs), 1)
    if workers.is_distributed(model):
        import keras

        from keras_tl.models import splitting

        # The same layers in a model of this process alone: Keras's own prediction would
        # ask all workers for every batch.
        model = keras.Model(splitting.inputs(model), model.outputs, name=model.name)
    if workers.current() is None:
        return _run_all(model, inputs, batch_size, title)
    own = workers.share(len(inputs))
    rows = _run_all(model, inputs.take(own), batch_size, title) if len(own) else None
    return workers.concatenate(rows)


def _run_all(model, inputs, batch_size, title):
    count, outputs = len(inputs), None
    runner = _Runner(model, batch_size)
    steps = math.ceil(count / batch_size)
    for step in progress.track(range(steps), title, steps):
        rows = np.arange(step * batch_size, min((step + 1) * batch_size, count))
        batch = runner.run(inputs.read(rows), len(rows))
        if outputs is None:
            outputs = np.empty((count, *batch.shape[1:]), batch.dtype)
        outputs[rows] = batch
    return outputs


def has_room(stem: "keras.Model", count: int, cache: store.Cache | None = None) -> bool:
    """Return whether memory or cache has room for the features of `count` examples.

    Room is half of the free memory, or half of the free space on the cache's disk. Of
    several workers, each needs room in its memory, since it reads rows of all of them.
    """
    if workers.current() is not None:
        return workers.all_agree(_fits_in_memory(stem, count))
    return _fits_in_memory(stem, count) or (
        cache is not None and _fits_on_disk(stem, count, cache)
    )


def fingerprint(stem: "keras.Model") -> str:
    """Hash everything except its input that determines the output of a frozen stem.

    Layers and operations with their settings and constants; weights; types of numbers;
    the kind of device; the versions of Keras and its backend; the code of functions and
    of layers that are not of Keras, with everything that it reads. Names are left out,
    since Keras numbers them by what was made before, and so is whether a layer trains.

    Returns:
        32 hexadecimal digits.

    Raises:
        InputError: A layer has no configuration.

    >>> import keras
    >>> def stem(value):
    ...     dense = keras.layers.Dense(2, kernel_initializer="ones")
    ...     scale = keras.layers.Rescaling(value)
    ...     return keras.Sequential([keras.Input((4,)), scale, dense])
    >>> fingerprint(stem(1.0)) == fingerprint(stem(1.0))
    True
    >>> fingerprint(stem(1.0)) == fingerprint(stem(2.0))
    False
    """
    import keras

    digest = hashlib.blake2b(digest_size=16)
    backend = keras.backend.backend()
    devices = keras.distribution.list_devices() or ["none"]
    made_by = {
        "format": store.FORMAT,
        "keras": keras.__version__,
        backend: sys.modules[backend].__version__,
        "device": devices[0].partition(":")[0],
        "model": _without_names(_config(stem)),
        "code": _own_code(stem),
    }
    digest.update(json.dumps(made_by, sort_keys=True, default=repr).encode())
    for weight in stem.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        digest.update(f"{value.dtype} {value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _config(stem):
    try:
        return stem.get_config()
    except (NotImplementedError, TypeError, ValueError) as error:
        reason = next(line for line in [*str(error).splitlines(), "?"] if line.strip())
        raise errors.InputError(
            f"{stem.name} has a layer that cannot be described, and so not be saved "
            f"either: {reason.strip().rstrip('.')}. Give it a `get_config`."
        ) from error


# Where Keras's configurations hold names of layers.
_NAMES = ("name", "keras_history", "input_layers", "output_layers")


def _without_names(config):
    """Number the layers of a configuration, in the place of their names."""
    numbers = {}

    def is_policy(value):
        # The name of a policy determines its dtypes.
        return "Policy" in value.get("class_name", "")

    def find(value):
        if isinstance(value, dict):
            inner = value.get("config")
            if isinstance(inner, dict) and not is_policy(value):
                numbers.setdefault(inner.get("name"), len(numbers))
            for each in value.values():
                find(each)
        elif isinstance(value, list | tuple):
            for each in value:
                find(each)

    def numbered(value, is_name=False):
        if isinstance(value, dict) and not is_policy(value):
            return {
                key: numbered(each, key in _NAMES)
                for key, each in value.items()
                # Whether a layer trains changes nothing while it does not.
                if key != "trainable"
            }
        if isinstance(value, list | tuple):
            return [numbered(each, is_name) for each in value]
        # Elsewhere a string that is also a name, such as "relu", is something else.
        return (
            numbers.get(value, value) if is_name and isinstance(value, str) else value
        )

    config = {key: value for key, value in config.items() if key != "name"}
    find(config)
    return numbered(config)


def _own_code(stem):
    """Describe the code of a model that is not Keras's own, since it may change.

    Keras's configurations name functions, such as that of a Lambda or an activation,
    and say nothing of their code; and they have of other layers what these tell.
    """
    import keras

    common = {*vars(keras.Layer()), "_functional"}
    described = []
    for layer in stem._flatten_layers():
        if isinstance(layer, keras.Model):
            continue
        kind = type(layer)
        described += [
            code.describe(value)
            for name, value in sorted(vars(layer).items())
            if isinstance(value, types.FunctionType | functools.partial)
            and name != "call"
        ]
        if not _is_of_keras(kind):
            state = {
                name: value
                for name, value in sorted(vars(layer).items())
                if name not in common
                and not isinstance(value, keras.Layer | keras.Variable)
                and not isinstance(value, keras.random.SeedGenerator)
                and not _holds_layers(value)
            }
            described += [code.describe(kind), code.describe(state)]
    return described


def _is_of_keras(kind):
    return kind.__module__.partition(".")[0] in ("keras", "keras_hub")


def _holds_layers(value):
    import keras

    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, list | tuple) and all(
        isinstance(one, keras.Layer | keras.Variable) for one in value
    )


def _size(stem, count):
    output = stem.outputs[0]
    # float32 has four bytes, bfloat16 and float16 have two.
    item = 2 if "16" in output.dtype else 4
    return count * math.prod(output.shape[1:]) * item


def _as_features(split, values):
    return replace(split, inputs=Stored(split.inputs, values, "features"))


def _no_room(stem, count):
    return errors.InputError(
        f"The features of {count:,} examples, {stem.outputs[0].shape[1:]} each, fit "
        "neither into the free memory nor into a cache. Use fewer examples (`limit`), "
        "or a smaller `image_size`."
    )


def _fits_in_memory(stem, count):
    return 2 * _size(stem, count) <= psutil.virtual_memory().available


def _fits_on_disk(stem, count, cache):
    folder = Path(cache.folder).absolute()
    while not folder.exists():
        folder = folder.parent
    return 2 * _size(stem, count) <= shutil.disk_usage(folder).free


def _run_new(stem, inputs, kept, batch_size, title):
    """Run `stem` over the examples that are not in the cache; return all keys."""
    count, keys = len(inputs), []
    new_keys, new_examples = [], []
    runner = _Runner(stem, batch_size)

    def run_batch():
        batch = np.stack(new_examples[:batch_size])
        kept.add(new_keys[:batch_size], runner.run(batch, len(batch)))
        del new_keys[:batch_size], new_examples[:batch_size]

    steps = math.ceil(count / batch_size)
    try:
        for step in progress.track(range(steps), title, steps):
            rows = np.arange(step * batch_size, min((step + 1) * batch_size, count))
            examples = inputs.read(rows)
            hashes = store.hash_rows(examples)
            keys += hashes
            for key, example in zip(hashes, examples, strict=True):
                if key not in kept and key not in new_keys:
                    new_keys.append(key)
                    new_examples.append(example)
            if len(new_keys) >= batch_size:
                run_batch()
        if new_keys:
            run_batch()
    finally:
        # Also after Ctrl-C: what was computed is not computed again.
        kept.flush()
    return keys


class _Runner:
    """Runs a model over batches, and halves them for good where the memory is full."""

    def __init__(self, model, batch_size):
        self._model, self._size = model, batch_size

    def run(self, examples, count) -> np.ndarray:
        """Run the model over all `count` examples, in order."""
        parts, done = [], 0
        while done < count:
            # As if there were always as many: a copy of the last fills up the others.
            rows = np.minimum(np.arange(done, done + self._size), count - 1)
            try:
                batch = _over_devices(_rows(examples, rows), self._size)
                part = self._model.predict_on_batch(batch)
            except Exception as error:
                if self._size == 1 or not errors.is_out_of_memory(error):
                    raise
                errors.warn(
                    f"The memory is too small for {self._size} examples at once: from "
                    f"now on {self._size // 2} are run at once, to the same results."
                )
                self._size //= 2
                continue
            # A model built under a strategy returns all rows once for each replica.
            parts.append(part[: min(self._size, count - done)])
            done += self._size
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _rows(examples, rows):
    if isinstance(examples, dict):
        return {name: values[rows] for name, values in examples.items()}
    return examples[rows]


def _over_devices(examples, batch_size):
    """Split a batch over the devices of JAX, each of which would run all of it."""
    import keras

    distribution = keras.distribution.distribution()
    if distribution is None or batch_size % distribution.num_model_replicas:
        return examples
    return keras.tree.map_structure(
        lambda values: keras.distribution.distribute_tensor(
            values, distribution.get_data_layout(values.shape)
        ),
        examples,
    )
