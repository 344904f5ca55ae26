"""Place training on one device, or on several with the same weights on each.

On one device there is no strategy, and `scope()` does nothing. On several, of one
machine or of many, each holds a copy of the weights and gets an equal share of every
global batch, so that the same global batches give the same weights as one device does.
TensorFlow runs a step on each device and adds the gradients (`tf.distribute`); JAX runs
one step over all devices (`keras.distribution.DataParallel`), which nothing in a model
can tell from one device.
"""

import contextlib
import functools
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from keras_tl import cluster as clusters
from keras_tl import config, environment, errors, files
from keras_tl.config import Settings
from keras_tl.data import pipeline
from keras_tl.training import workers
from keras_tl.training.settings import PRECISIONS, STRATEGIES, Strategy

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def choose(
    devices: Sequence[str] | None = None,
    *,
    precision: str = "float32",
    strategy: Strategy = "auto",
    about: Mapping[str, str] = MappingProxyType({}),
) -> "Placement":
    """Choose where to train and set Keras's dtype policy.

    Keras is also set to channels_last and float32, see `environment`.

    Call it before anything else uses TensorFlow: GPUs are set to take memory as they
    need it, which is possible only before they start. On JAX it also sets Keras's
    distribution, which holds until it is called again.

    Args:
        devices: Names such as "GPU:0"; None takes all GPUs, or the CPU if there is
            none. On JAX, None takes all CPUs that `XLA_FLAGS` asks for.
        precision: Name of the dtype policy of the layers built from now on, or
            "auto": mixed_bfloat16 where TensorFlow is the backend and the processor or
            every GPU computes with it, else float32. Decided by the properties of the
            hardware, never by timing, so that it is the same on every run on a machine.
        strategy: "mirrored" takes all devices of this machine: its GPUs, or, without
            any, all CPUs that TensorFlow was told to make of its processors.
            "multiworker" takes all devices of the machines that the environment
            variable `TF_CONFIG` names, each of which runs the same program. "auto" does
            the latter where it names several, and else takes what `devices` says.
        about: What has to be the same on all machines, name -> value; versions of
            packages are compared in any case.

    Returns:
        The placement; its `strategy` is None where TensorFlow or JAX would take the
        one device by itself, and on other backends.

    Raises:
        InputError: There is no such device, or no such cluster; or its machines do not
            come together.
    """
    if strategy not in STRATEGIES:
        raise errors.unknown("strategy", strategy, STRATEGIES)
    if precision not in (*PRECISIONS, "auto"):
        raise errors.unknown("precision", precision, [*PRECISIONS, "auto"])
    cluster = _cluster_for(strategy, devices)
    import keras

    environment.use_standard_keras()
    backend = keras.config.backend()
    if cluster is not None:
        names, chosen = _workers(cluster, backend, about)
    elif backend == "tensorflow":
        names, chosen = _tensorflow_devices(devices, strategy == "mirrored")
    elif backend == "jax":
        names, chosen = _jax_devices(devices)
    elif devices is None:
        names, chosen = (f"{backend} default",), None
    else:
        raise errors.expected(
            "devices", f"be None under KERAS_BACKEND={backend}", list(devices)
        )
    if precision == "auto":
        own = [name.rpartition(" ")[2] for name in names]
        fast = backend == "tensorflow" and workers.all_agree(_has_bfloat16(own))
        precision = "mixed_bfloat16" if fast else "float32"
    keras.config.set_dtype_policy(precision)
    return Placement(chosen, names, precision)


def from_settings(settings: Settings) -> "tuple[Placement, Settings]":
    """Choose where to train as the settings of a recipe ask, and set the seed of Keras.

    Args:
        settings: A recipe's settings, with the fields `precision`, `strategy` and
            `seed`. All machines must have the same, besides paths.

    Returns:
        The placement, and the settings with the precision that "auto" has chosen.
    """
    import keras

    same = {
        f"setting `{name}`": str(value)
        for name, value in vars(settings).items()
        if not isinstance(value, Path)
        and name not in ("out", "resume", *config.FREE, *config.PLACES)
    }
    resume = getattr(settings, "resume", None)
    kept = "none" if resume is None else files.fingerprint_of_folder(resume)
    # First, since the settings of a run that goes on are those it was started with.
    same = {clusters.INTERRUPTED: kept, **same}
    placement = choose(
        precision=settings.precision, strategy=settings.strategy, about=same
    )
    check_batch_size(placement, settings.batch_size)
    keras.utils.set_random_seed(settings.seed)
    return placement, replace(settings, precision=placement.precision)


def check_batch_size(placement: "Placement", batch_size: int) -> None:
    """Raise `InputError` unless each replica gets equally many rows.

    With unequal shares the step averages per-replica means, which is another loss than
    one device's; with an empty share convolutions fail and evaluation gives NaN.

    >>> check_batch_size(Placement(None, ("CPU:0",), "float32"), 0)
    Traceback (most recent call last):
    keras_tl.errors.InputError: `batch_size` must be a positive integer. \
Received: batch_size=0
    """
    check_share(batch_size, placement.replicas)


def check_share(batch_size: int, replicas: int) -> None:
    """Raise `InputError` unless a batch can be divided among devices.

    >>> check_share(64, replicas=2)
    """
    whole = isinstance(batch_size, numbers.Integral) and batch_size is not True
    if not whole or batch_size < 1:
        raise errors.expected("batch_size", "be a positive integer", batch_size)
    if batch_size % replicas:
        below = batch_size // replicas * replicas
        near = f"{below} or {below + replicas}" if below else replicas
        raise errors.expected(
            "batch_size",
            f"be a multiple of {replicas}, the number of devices",
            batch_size,
            f"The nearest: {near}.",
        )


def check_model(placement: "Placement", model: "keras.Model") -> None:
    """Raise `InputError` for a model that the strategy would train incorrectly.

    Call it where `fit` is called. On one device without a strategy all models pass.

    Args:
        placement: Where the model is to train.
        model: With `trainable` set on its layers as it is to train.
    """
    if placement.strategy is None:
        return
    if not placement.mirrored:
        _check_on_all(placement, model)
        return
    # Keras would fail with a bare AssertionError (variables made outside) or a
    # TypeError about MirroredVariable (only the Model object made outside). Seeds of
    # dropout are left out: they may be made anywhere.
    own = placement.strategy.extended.variable_created_in_scope
    if model.distribute_strategy is not placement.strategy or not all(
        own(weight.value) for weight in model.weights
    ):
        raise errors.expected(
            "model",
            "be built under the strategy that trains it",
            model.name,
            "Load or build the model inside `with placement.scope():`.",
        )


def prepare_layers(placement: "Placement", model: "keras.Model") -> None:
    """Make layers that depend on their device train as on one device.

    BatchNormalization that trains uses the rows of all devices of a step. Otherwise
    each device keeps statistics of its own rows, without an error of Keras's: a
    prediction depends on the device that makes it, and saving keeps the first.

    Layers that draw at random, such as dropout, draw anew on each device. Otherwise
    each draws the same numbers, for other rows of the batch.

    Args:
        placement: Where the model is to train. On one device nothing is done, and
            neither on JAX, where a step is one program over all devices.
        model: With `trainable` set on its layers as it is to train.
    """
    if not placement.mirrored or placement.replicas == 1:
        return
    import keras

    # The private method is the only one that also finds the layers inside wrappers
    # and custom layers; `model.layers` stops at the first level.
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            layer.synchronized = True
        for generator in layer._seed_generators:
            if "next" not in vars(generator):
                generator.next = functools.partial(_seeds_of_device, generator.next)


def _seeds_of_device(draw, *arguments, **options):
    """Return the next seeds, other ones on each device of a step."""
    import tensorflow as tf

    seeds = draw(*arguments, **options)
    context = tf.distribute.get_replica_context()
    if context is None:
        return seeds
    device = tf.cast(context.replica_id_in_sync_group, seeds.dtype)
    # The second of the two counts the draws: it would meet that of another device.
    return seeds + tf.stack([device, tf.zeros_like(device)])


def _check_on_all(placement, model):
    """Refuse a model of which JAX holds a weight on other devices than the chosen."""
    wanted = len(placement.devices)
    if any(len(weight.value.sharding.device_set) != wanted for weight in model.weights):
        # JAX would name two sets of devices, and no way out.
        raise errors.expected(
            "model",
            f"be built for {errors.counted(wanted, 'device')}",
            model.name,
            "Call `placement.choose()` first, and load or build the model after it.",
        )


# Arguments of Keras's optimizers that limit gradients.
CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")


def prepare_optimizer(placement: "Placement", optimizer) -> None:
    """Make an optimizer limit the gradients of a batch, not those of each device.

    `clipnorm`, `clipvalue` and `global_clipnorm` of Keras limit what each device has,
    before it is added up: the weights would not be those of one device.

    Args:
        placement: Where the optimizer is used. On one device nothing is done, and
            neither on JAX, where a step is one program over all devices.
        optimizer: A Keras optimizer, also one that scales the loss.
    """
    if not placement.mirrored or placement.replicas == 1:
        return
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if any(getattr(optimizer, name, None) for name in CLIPPING):
        import keras
        import tensorflow as tf

        clip = optimizer._clip_gradients

        def clip_sums(gradients):
            context = tf.distribute.get_replica_context()
            sums = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            # Keras adds up those of all devices afterwards.
            count = context.num_replicas_in_sync
            return [keras.ops.divide(clipped, count) for clipped in clip(sums)]

        optimizer._clip_gradients = clip_sums


# Below so many multiplications a step is over sooner than Python starts the next.
SMALL_STEP = 10**7


def compile_options(
    placement: "Placement", multiplications: int
) -> dict[str, str | bool | int]:
    """Return the arguments of `model.compile` that the placement decides.

    Args:
        placement: Where the model is to train.
        multiplications: About how many a step takes, such as parameters times rows.

    Returns:
        `jit_compile` and `steps_per_execution`, to be passed on with `**`.

    >>> compile_options(Placement(None, ("CPU:0",), "float32"), 64 * 14_000_000)
    {'jit_compile': 'auto', 'steps_per_execution': 1}
    >>> compile_options(Placement(None, ("CPU:0",), "float32"), 64 * 5_130)
    {'jit_compile': 'auto', 'steps_per_execution': 32}
    """
    # Under a strategy XLA fails on reading another device's variables, and several
    # steps per execution fail on feeding them (keras #19246).
    # On one device Keras decides (`Trainer._resolve_auto_jit_compile`): off where
    # there are only CPUs, on which XLA trains convolutions 7 to 11 times slower; on
    # with a GPU, unless a layer does not support it.
    if placement.mirrored:
        return {"jit_compile": False, "steps_per_execution": 1}
    small = multiplications < SMALL_STEP
    return {"jit_compile": "auto", "steps_per_execution": 32 if small else 1}


@dataclass(frozen=True)
class Placement:
    """Devices and precision of a training run, as `choose` returns them.

    Attributes:
        strategy: None for the one device that the backend takes by itself.
        devices: Names such as "GPU:0", in the order in which batches are split.
        precision: Name of the Keras dtype policy.
    """

    strategy: "tf.distribute.Strategy | keras.distribution.DataParallel | None"
    devices: tuple[str, ...]
    precision: str

    @property
    def replicas(self) -> int:
        """Number of copies of the model that train side by side."""
        if self.mirrored:
            return self.strategy.num_replicas_in_sync
        return len(self.devices)

    @property
    def mirrored(self) -> bool:
        """Whether devices run a step apart, each on its share, as TensorFlow does."""
        return hasattr(self.strategy, "num_replicas_in_sync")

    def scope(self) -> contextlib.AbstractContextManager:
        """Return the context in which to build and compile the model."""
        if self.strategy is None:
            return contextlib.nullcontext()
        return self.strategy.scope()

    @property
    def share(self) -> "pipeline.Share":
        """The devices of this machine among all, for `pipeline.Training`."""
        connected = workers.current()
        if self.strategy is None or connected is None:
            return pipeline.Share()
        local = connected.local_replicas
        return pipeline.Share(
            connected.cluster.rank * local, local, self.strategy.num_replicas_in_sync
        )

    def distribute(self, batches: "tf.data.Dataset") -> "tf.data.Dataset":
        """Return batches of `share` as `fit` takes them, one step after the other."""
        if self.strategy is None or workers.current() is None:
            return batches
        return self.strategy.distribute_datasets_from_function(lambda context: batches)

    def describe(self, batch_size: int, learning_rate: float) -> str:
        """Describe a training step in one sentence.

        Args:
            batch_size: Rows in a step, over all devices.
            learning_rate: As given to the optimizer.

        >>> print(Placement(None, ("CPU:0",), "float32").describe(64, 0.001))
        1 device (CPU:0), no strategy: batch 64, learning rate 0.001, precision float32.
        """
        check_batch_size(self, batch_size)
        count = len(self.devices)
        where = f"{errors.counted(count, 'device')} ({', '.join(self.devices)})"
        how = "no strategy" if self.strategy is None else type(self.strategy).__name__
        # TensorFlow's own name of what it documents as the other.
        how = how.replace("CollectiveAllReduceStrategy", "MultiWorkerMirroredStrategy")
        batch, rate = f"batch {batch_size}", f"learning rate {learning_rate:g}"
        if self.replicas > 1:
            share = batch_size // self.replicas
            batch = f"global {batch} = {self.replicas} x {share}"
            rate = f"{rate} (as given, not scaled)"
        return f"{where}, {how}: {batch}, {rate}, precision {self.precision}."


def _cluster_for(strategy, devices) -> "clusters.Cluster | None":
    """Return the machines to train on; `None` for this one alone."""
    cluster = clusters.from_environment()
    hint = "TF_CONFIG names the machines of a cluster; see docs/how_to/clusters.md."
    if strategy == "multiworker" and cluster is None:
        raise errors.expected(
            "strategy", "be auto or mirrored on one machine", strategy, hint
        )
    if cluster is None:
        return None
    if strategy == "mirrored":
        raise errors.expected(
            "strategy",
            "be auto or multiworker where TF_CONFIG names several machines",
            strategy,
            "Unset TF_CONFIG to train on this machine alone.",
        )
    if devices is not None:
        raise errors.expected(
            "devices", "be None on several machines, which use all they have", devices
        )
    return cluster


def _workers(cluster, backend, about):
    """Connect with the other machines; return names of devices, and the strategy."""
    if backend != "tensorflow":
        raise errors.expected(
            "KERAS_BACKEND", "be tensorflow to train on several machines", backend
        )
    connected = workers.start(cluster, about)
    import tensorflow as tf

    kind = "GPU" if tf.config.get_visible_devices("GPU") else "CPU"
    names = tuple(
        f"{address} {kind}:{number}"
        for address in cluster.addresses
        for number in range(connected.local_replicas)
    )
    return names, connected.strategy


def _tensorflow_devices(
    devices: Sequence[str] | None, every_cpu: bool
) -> tuple[tuple[str, ...], "tf.distribute.Strategy | None"]:
    """Return the names of the devices to use and the strategy they need."""
    import tensorflow as tf

    for gpu in tf.config.get_visible_devices("GPU"):
        # RuntimeError: the GPUs have started already, as in a notebook, and keep the
        # memory they took. ValueError: the user split them, each part with a limit.
        # Training works in both cases, so neither is a reason to stop.
        with contextlib.suppress(RuntimeError, ValueError):
            tf.config.experimental.set_memory_growth(gpu, True)
    there = [_short_name(d.name) for d in tf.config.list_logical_devices()]
    gpus, cpus = (
        tuple(name for name in there if name.startswith(kind))
        for kind in ("GPU:", "CPU:")
    )
    default = gpus or (cpus if every_cpu else cpus[:1])
    names = _named_devices(devices, there, default)
    if names == default[:1]:
        return names, None
    if len(names) == 1:
        return names, tf.distribute.OneDeviceStrategy(names[0])
    return names, _mirrored(names)


@functools.cache
def _mirrored(names):
    """Return the strategy of some devices, one for a process.

    Another for the same devices would count their sums from the beginning, and
    TensorFlow would take those of the first for them: "Shape mismatch in the collective
    instance" where the second model has other shapes.
    """
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(names)


def _jax_devices(
    devices: Sequence[str] | None,
) -> "tuple[tuple[str, ...], keras.distribution.DataParallel | None]":
    """Return the names of the devices to use; set how Keras distributes over them."""
    import keras

    own = tuple(_short_name(name) for name in keras.distribution.list_devices())
    cpus = [_short_name(name) for name in keras.distribution.list_devices("cpu")]
    names = _named_devices(devices, [*own, *cpus], own)
    strategy = None
    if names != own[:1]:
        strategy = keras.distribution.DataParallel(
            devices=[name.lower() for name in names]
        )
    keras.distribution.set_distribution(strategy)
    return names, strategy


def _named_devices(devices, there, default):
    """Return the short names of the devices that are wanted, each of which is there."""
    if devices is None:
        names = default
    elif isinstance(devices, str) or not devices:
        raise errors.expected("devices", 'be a list such as ["GPU:0"]', devices)
    else:
        names = tuple(_short_name(name) for name in devices)
    for name in names:
        if name not in there:
            raise errors.unknown("devices", name, set(there))
    if len(set(names)) < len(names):
        raise errors.expected("devices", "name each device once", list(names))
    return names


# Flags of processors that multiply bfloat16 matrices in hardware.
CPU_FLAGS = {"avx512_bf16", "amx_bf16"}
CPU_INFO = Path("/proc/cpuinfo")


def _has_bfloat16(devices: Sequence[str]) -> bool:
    """Return whether all of the devices compute with bfloat16 in hardware."""
    if not all(name.startswith(("CPU:", "GPU:")) for name in devices):
        return False
    if any(name.startswith("CPU:") for name in devices):
        lines = CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else []
        flags = next((line for line in lines if line.startswith("flags")), "")
        return bool(CPU_FLAGS & set(flags.split()))
    import tensorflow as tf

    details = [
        tf.config.experimental.get_device_details(gpu)
        for gpu in tf.config.get_visible_devices("GPU")
    ]
    # Ampere, 8.0, is the first generation with it.
    return all(one.get("compute_capability", (0, 0)) >= (8, 0) for one in details)


def _short_name(device: str) -> str:
    """Return "GPU:1" for "/job:localhost/replica:0/task:0/device:GPU:1"."""
    return str(device).upper().rpartition("DEVICE:")[2].lstrip("/")
