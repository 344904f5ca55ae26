"""Several machines that train one model, each on its share of every batch.

Every worker runs the whole program. What they compute together is here: rows are
divided, results are put together, and decisions that depend on a machine are those of
the chief. `tf.distribute.MultiWorkerMirroredStrategy` adds the gradients.

Keras 3 does not work with that strategy as it is
(https://github.com/keras-team/keras/issues/20585): two of its functions, which serve
only shapes and the numbers of the progress display, are replaced here by ones that look
at the values of this worker alone. Numbers of an epoch are not concerned: Keras reads
them from variables that are added up over all workers.
"""

import functools
import hashlib
import inspect
import json
import math
import signal
import threading
from collections.abc import Mapping

import numpy as np

from keras_tl import cluster as clusters
from keras_tl import environment, errors

# Versions of Keras that the replacements below were tested with.
KERAS = "3.15."
# Most int32 numbers of one exchange.
_PIECE = 2**22

# The connection of this process, once it has one.
_CURRENT: "Workers | None" = None


class Workers:
    """The workers of a run, connected.

    Attributes:
        cluster: Who they are.
        strategy: A `tf.distribute.MultiWorkerMirroredStrategy`.
    """

    def __init__(self, cluster: clusters.Cluster, strategy):
        self.cluster, self.strategy = cluster, strategy
        self._gather = _gathering(strategy, self.local_replicas)

    @property
    def local_replicas(self) -> int:
        """Number of devices of this worker."""
        return self.strategy.num_replicas_in_sync // len(self.cluster.addresses)

    def gather_bytes(self, content: bytes) -> list[bytes]:
        """Return the bytes of each worker, to all of them."""
        own = np.array([len(content)], "int64")
        lengths = self._gather(own.view("int32")).numpy().view("int64").tolist()
        words = np.frombuffer(content + b"\0" * (-len(content) % 4), "int32")
        pieces: list[list[bytes]] = [[] for _ in lengths]
        for start in range(0, math.ceil(max(lengths) / 4), _PIECE):
            sizes = [
                min(_PIECE, max(0, math.ceil(length / 4) - start)) for length in lengths
            ]
            together = self._gather(words[start : start + _PIECE]).numpy()
            parts = np.split(together, np.cumsum(sizes)[:-1])
            for piece, part in zip(pieces, parts, strict=True):
                piece.append(part.tobytes())
        return [
            b"".join(piece)[:length]
            for piece, length in zip(pieces, lengths, strict=True)
        ]


def _gathering(strategy, local_replicas):
    """Return a function from int32 numbers of this worker to those of all."""
    import tensorflow as tf

    def gather(values):
        context = tf.distribute.get_replica_context()
        # Of several devices of a worker, the first has the values.
        first = tf.equal(context.replica_id_in_sync_group % local_replicas, 0)
        own = values[: tf.where(first, tf.size(values), 0)]
        return context.all_gather(own, axis=0)

    # Traced once: `strategy.gather` is traced anew by every call.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)])
    def gather_all(values):
        gathered = strategy.run(gather, args=(values,))
        return strategy.experimental_local_results(gathered)[0]

    return gather_all


def current() -> Workers | None:
    """Return the connection to the other workers; `None` on one machine."""
    return _CURRENT


def start(cluster: clusters.Cluster, about: Mapping[str, str]) -> Workers:
    """Connect this process with the other workers, once.

    Call it before anything else uses TensorFlow.

    Args:
        cluster: The workers.
        about: What else than versions must be the same for all of them.

    Raises:
        InputError: A version that was not tested, a worker that does not come, or one
            that is about to do something else.
    """
    global _CURRENT
    if _CURRENT is not None:
        return _CURRENT
    _check_keras()
    versions = {
        name: environment.version(name) or "none"
        for name in ("keras-tl", "keras", "tensorflow", "numpy")
    }
    clusters.meet(cluster, {**versions, **about}, clusters.patience())
    import tensorflow as tf

    ends = signal.getsignal(signal.SIGTERM)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise errors.InputError(
            "Several workers have to be connected before anything else uses "
            f"TensorFlow: call `placement.choose()` first. TensorFlow: {error}"
        ) from error
    # TensorFlow takes SIGTERM for itself, so as to save what it trains, which nothing
    # here asks it to do: without this, the signal would end no worker any more.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, ends or signal.SIG_DFL)
    _replace_functions(strategy)
    _CURRENT = Workers(cluster, strategy)
    return _CURRENT


def is_distributed(model) -> bool:
    """Return whether calling a model concerns other workers too."""
    return _CURRENT is not None and model.distribute_strategy is _CURRENT.strategy


def from_chief(value):
    """Return the value that the chief has, for decisions that depend on a machine.

    Args:
        value: What JSON holds: a number, a text, a list or dictionary of these.

    >>> from_chief(0.5)
    0.5
    """
    if _CURRENT is None:
        return value
    own = json.dumps(value).encode() if _CURRENT.cluster.is_chief else b""
    return json.loads(_CURRENT.gather_bytes(own)[0])


def bytes_from_chief(content: bytes | None) -> bytes | None:
    """Return the content that the chief has, such as that of a file."""
    if _CURRENT is None:
        return content
    chief = _CURRENT.cluster.is_chief
    if not from_chief(content is not None):
        return None
    return _CURRENT.gather_bytes(content if chief else b"")[0]


def all_agree(value: bool) -> bool:
    """Return whether a condition holds on all workers.

    >>> all_agree(True)
    True
    """
    if _CURRENT is None:
        return value
    return all(
        json.loads(one) for one in _CURRENT.gather_bytes(b"1" if value else b"0")
    )


def all_equal(content: bytes) -> bool:
    """Return whether all workers have the same content.

    >>> all_equal(b"weights")
    True
    """
    if _CURRENT is None:
        return True
    digest = hashlib.blake2b(content, digest_size=16).digest()
    return len({*_CURRENT.gather_bytes(digest)}) == 1


def mean(value: float) -> float:
    """Return the mean of a number over the workers.

    >>> mean(0.5)
    0.5
    """
    return float(np.mean(numbers(value)))


def numbers(value: float) -> list[float]:
    """Return a number of each worker.

    >>> numbers(0.5)
    [0.5]
    """
    if _CURRENT is None:
        return [value]
    content = np.float64(value).tobytes()
    return [float(np.frombuffer(b)[0]) for b in _CURRENT.gather_bytes(content)]


def share(count: int) -> np.ndarray:
    """Return the indices, of `count` examples, that this worker computes.

    They are one after the other, so that a worker reads as few files of a data set as
    possible. The shares of all workers are all examples, each once.

    >>> share(3)
    array([0, 1, 2])
    """
    if _CURRENT is None:
        return np.arange(count)
    cluster = _CURRENT.cluster
    return np.array_split(np.arange(count), len(cluster.addresses))[cluster.rank]


def concatenate(rows: np.ndarray | None) -> np.ndarray:
    """Put the rows of all workers together, in their order.

    Args:
        rows: Rows of this worker, `(count, ...)`; `None` if it has none.

    Returns:
        Rows of all workers, on each of them.
    """
    if _CURRENT is None:
        return rows
    own = b""
    if rows is not None:
        about = {"dtype": rows.dtype.name, "shape": rows.shape}
        own = json.dumps(about).encode() + b"\n" + np.ascontiguousarray(rows).tobytes()
    arrays = []
    for content in _CURRENT.gather_bytes(own):
        if content:
            end = content.index(b"\n")
            about = json.loads(content[:end])
            # Types such as bfloat16, which numpy alone does not know, are here already.
            dtype = np.dtype(about["dtype"])
            values = np.frombuffer(content, dtype, offset=end + 1)
            arrays.append(values.reshape(about["shape"]))
    return np.concatenate(arrays)


def agree(**values: object) -> None:
    """Raise `InputError` unless all workers have the same values.

    Args:
        **values: Name -> what is compared, by its text; arrays by their content.

    >>> agree(seed=0)
    """
    if _CURRENT is None:
        return
    own = {name.replace("_", " "): _described(one) for name, one in values.items()}
    contents = _CURRENT.gather_bytes(json.dumps(own).encode())
    clusters.refuse_differences(_CURRENT.cluster, [json.loads(c) for c in contents])


def _described(value) -> str:
    if isinstance(value, np.ndarray):
        digest = hashlib.blake2b(np.ascontiguousarray(value).tobytes(), digest_size=8)
        return f"{value.shape} {digest.hexdigest()}"
    return str(value)


# How many times longer than the median a worker takes that is called slow, and the
# seconds it must take at least.
SLOW, NOTICEABLE = 1.5, 1.0


def warn_of_slow(seconds: float, task: str) -> bool:
    """Warn where one worker takes much longer than the others for the same task.

    Args:
        seconds: Time that this worker took for its share, without waiting for others.
        task: What took it, for people.

    Returns:
        Whether it was so.
    """
    if _CURRENT is None:
        return False
    every = numbers(seconds)
    slowest = int(np.argmax(every))
    others = float(np.median([s for rank, s in enumerate(every) if rank != slowest]))
    slow = every[slowest] > max(NOTICEABLE, SLOW * others)
    if slow:
        errors.warn(
            f"{_CURRENT.cluster.name(slowest)} is slow: {every[slowest]:.1f} s for "
            f"{task}, the others {others:.1f} s. All wait for it."
        )
    return slow


def _check_keras():
    version = environment.version("keras") or "none"
    if not version.startswith(KERAS):
        raise errors.expected(
            "keras",
            f"have a version {KERAS}x to train on several machines",
            version,
            "Two of its functions are replaced, which was tested with these versions.",
        )


@functools.cache
def _replace_functions(strategy) -> None:
    """Replace the two functions of Keras that fail with several workers."""
    import keras
    import tensorflow as tf
    from keras.src.backend.tensorflow import trainer

    def local(value):
        if isinstance(value, tf.distribute.DistributedValues):
            return strategy.experimental_local_results(value)[0]
        return value

    build, reduce = (
        trainer.TensorFlowTrainer._maybe_symbolic_build,
        trainer.reduce_per_replica,
    )
    for function, names in (
        (build, ["self", "iterator", "data_batch"]),
        (reduce, ["values", "strategy", "reduction"]),
    ):
        if list(inspect.signature(function).parameters) != names:
            raise errors.InputError(
                f"Keras's `{function.__name__}` has other arguments than in {KERAS}x: "
                "training on several machines was not tested with it."
            )

    def build_of_local(self, iterator=None, data_batch=None):
        if self._distribute_strategy is not strategy:
            return build(self, iterator=iterator, data_batch=data_batch)
        if iterator is not None:
            for _, _, batches in iterator:
                data_batch = keras.tree.map_structure(local, next(batches))
                break
        with strategy.scope():
            self._symbolic_build(data_batch=data_batch)
        return None

    def reduce_of_local(values, used, reduction):
        if used is strategy and reduction in ("auto", "mean", "first"):
            return keras.tree.map_structure(local, values)
        return reduce(values, used, reduction)

    trainer.TensorFlowTrainer._maybe_symbolic_build = build_of_local
    trainer.reduce_per_replica = reduce_of_local
