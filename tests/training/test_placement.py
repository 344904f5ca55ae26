"""Two logical CPUs stand in for two GPUs.

They must be made before TensorFlow starts, so one subprocess does all that needs them
(importing TensorFlow takes seconds) and prints what it saw as JSON.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass

import keras
import numpy as np
import pytest

from keras_tl.commands.settings import Train
from keras_tl.config import RunSettings
from keras_tl.errors import InputError
from keras_tl.training import placement
from keras_tl.training.placement import Placement
from keras_tl.training.settings import TrainingSettings

SCRIPT = """
import json, sys
from keras_tl.training import placement
from keras_tl.errors import InputError

seen = {"cheap_import": not {"tensorflow", "keras"} & set(sys.modules)}

import keras
import numpy as np
import tensorflow as tf
from keras_tl.training import optimizers

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
layers = keras.layers

def build(**batch_normalization):
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(image)
    x = layers.BatchNormalization(name="bn", **batch_normalization)(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(3, name="logits")(x))
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.1, 1, w.shape) for w in model.weights])
    return model

def train(where, **batch_normalization):
    # Adam would hide a gradient that is summed instead of averaged.
    sgd = lambda: keras.optimizers.SGD(0.05, momentum=0.9)
    return train_by(where, sgd, batch_normalization)

def train_by(where, optimizer, batch_normalization):
    random = np.random.default_rng(1)
    images = random.normal(size=(48, 8, 8, 3)).astype("float32")
    labels = random.integers(0, 3, 48)
    # 44 examples in batches of 16: the last batch has 4 rows of padding, which would
    # show if they counted, and all of them are in the second device's share.
    # Trainable statistics would take them in, on one device as on two.
    images[44:] = 0 if batch_normalization else 1e3
    real = np.repeat([1.0, 0.0], [44, 4]).astype("float32")
    batches = tf.data.Dataset.from_tensor_slices((images, labels, real)).batch(16)
    with where.scope():
        model = build(**batch_normalization)
        if not batch_normalization:
            model.get_layer("bn").trainable = False
        placement.prepare_layers(where, model)
        model.compile(
            optimizer(),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            weighted_metrics=["accuracy"],
            **placement.compile_options(where, 1),
        )
        placement.prepare_optimizer(where, model.optimizer)
    placement.check_model(where, model)
    start = [w.tolist() for w in model.get_weights()]
    losses = model.fit(batches, epochs=3, shuffle=False, verbose=0).history["loss"]
    trained = [w.tolist() for w in model.get_weights()]
    if batch_normalization:
        return {"weights": trained, "losses": losses}
    return {
        "start": start,
        "weights": trained,
        "losses": losses,
        "evaluate": model.evaluate(batches, verbose=0, return_dict=True),
        "predict": model.predict(images[:44], batch_size=16, verbose=0).tolist(),
    }

def error(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except InputError as refusal:
        return str(refusal)

one = placement.choose()
two = placement.choose(["CPU:0", "/device:cpu:1"])
second = placement.choose(["CPU:1"])
names = lambda where: type(where.strategy).__name__
seen["strategies"] = [names(one), names(two), names(second)]
seen["describe"] = two.describe(64, 0.001)
seen["options"] = placement.compile_options(two, 1)
seen["one"], seen["two"] = train(one), train(two)
seen["one_synchronized"] = train(one, momentum=0.9)
seen["two_synchronized"] = train(two, momentum=0.9)

seen["batch_size"] = {n: error(placement.check_batch_size, two, n) for n in (1, 7, 8)}
seen["device"] = error(placement.choose, ["CPU:0", "CPU:7"])
seen["twice"] = error(placement.choose, ["CPU:0", "CPU:0"])

trainable = build()
seen["on_one"] = error(placement.check_model, one, trainable)
seen["outside"] = error(placement.check_model, two, trainable)
seen["other_scope"] = error(placement.check_model, second, trainable)
with second.scope():
    trainable = build()
seen["on_second"] = error(placement.check_model, second, trainable)
seen["second_device"] = trainable.weights[0].value.device
with two.scope():
    frozen = build(trainable=False)
    nested = keras.Sequential([build(), layers.Dense(2)])
    wrapped = layers.TimeDistributed(layers.BatchNormalization(name="inside"))
    wrapped = keras.Sequential([keras.Input((5, 8)), wrapped])
def synchronized_names(model):
    placement.prepare_layers(one, model)
    before = [l.name for l in model._flatten_layers() if getattr(l, "synchronized", 0)]
    placement.prepare_layers(two, model)
    after = [l.name for l in model._flatten_layers() if getattr(l, "synchronized", 0)]
    return [before, after]

seen["frozen"] = [error(placement.check_model, two, frozen), synchronized_names(frozen)]
frozen.get_layer("bn").trainable = True
seen["unfrozen"] = synchronized_names(frozen)
seen["nested"] = synchronized_names(nested)
seen["wrapped"] = synchronized_names(wrapped)
frozen.get_layer("bn").trainable = False
seen["rewrapped"] = error(
    placement.check_model, two, keras.Model(frozen.inputs, frozen.outputs)
)
sgd = keras.optimizers.SGD
CLIPPED = {
    "values": lambda: sgd(0.1, clipvalue=0.01),
    "norms, by layer": lambda: optimizers.layerwise("sgd", {}, clipnorm=0.01)(0.1),
    "norm of all, scaled": lambda: keras.optimizers.LossScaleOptimizer(
        sgd(0.1, global_clipnorm=0.01)
    ),
}
def clipped(where):
    statistics = {"momentum": 0.9}
    trained = {n: train_by(where, make, statistics) for n, make in CLIPPED.items()}
    return {name: one["weights"] for name, one in trained.items()}

seen["one_clipped"], seen["two_clipped"] = clipped(one), clipped(two)

def embedding(where):
    with where.scope():
        model = keras.Sequential([layers.Embedding(5, 2), layers.Flatten()])
        sgd = keras.optimizers.SGD(0.5, clipvalue=0.01)
        model.compile(sgd, "mse", jit_compile=False)
        placement.prepare_optimizer(where, model.optimizer)
        model.build((None, 3))
        model.set_weights([np.linspace(-1, 1, 10).reshape(5, 2)])
    numbers = np.random.default_rng(0).integers(0, 5, (8, 3))
    model.fit(numbers, np.ones((8, 6)), batch_size=4, shuffle=False, verbose=0)
    return model.get_weights()[0].tolist()

def dropped(where):
    # Which of 100 values each device drops, in two steps.
    with where.scope():
        dropout = layers.Dropout(0.5, seed=3)
        model = keras.Sequential([keras.Input((100,)), dropout])
        for _ in range(2):  # As two phases do.
            placement.prepare_layers(where, model)
    step = tf.function(lambda: model(tf.ones((1, 100)), training=True))
    if where.strategy is None:
        return [(step().numpy() > 0).tolist() for _ in range(2)]
    steps = [where.strategy.run(step) for _ in range(2)]
    local = where.strategy.experimental_local_results
    return [[(own.numpy() > 0).tolist() for own in local(step)] for step in steps]

seen["dropped"] = {"one": dropped(one), "two": dropped(two), "again": dropped(two)}

seen["one_embedded"], seen["two_embedded"] = embedding(one), embedding(two)
seen["same_strategy"] = two.strategy is placement.choose(["CPU:0", "CPU:1"]).strategy
seen["mirrored"] = placement.choose(strategy="mirrored").devices
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def seen():
    """What the subprocess with two logical CPUs saw."""
    run = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", SCRIPT],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    return json.loads(run.stdout.splitlines()[-1])


@pytest.fixture
def dtype_policy():
    """Restore the policy that `choose` changes, for the other tests."""
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


def assert_close(one, two):
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def test_importing_the_module_imports_neither_tensorflow_nor_keras(seen):
    assert seen["cheap_import"]


def test_two_devices_train_to_the_same_weights_as_one(seen):
    one, two = seen["one"], seen["two"]
    assert_close(one["weights"], two["weights"])
    assert_close(one["losses"], two["losses"])
    moved = [
        np.abs(np.subtract(a, b)).max()
        for a, b in zip(one["start"], one["weights"], strict=True)
    ]
    # conv kernel and bias, the four of the frozen BatchNormalization, head.
    assert [m > 0.01 for m in moved] == [True] * 2 + [False] * 4 + [True] * 2
    assert max(moved[2:6]) == 0


def test_two_devices_evaluate_and_predict_the_same_numbers_as_one(seen):
    one, two = seen["one"], seen["two"]
    assert list(one["evaluate"]) == list(two["evaluate"]) == ["accuracy", "loss"]
    assert_close(one["evaluate"].values(), two["evaluate"].values())
    assert_close(one["predict"], two["predict"])


def test_padding_of_weight_zero_counts_nowhere(seen):
    # All 44 and none of the 4 at 1e3: a share of 44ths, not of 48ths.
    correct = seen["two"]["evaluate"]["accuracy"] * 44
    assert correct == pytest.approx(round(correct), abs=1e-4)
    assert max(seen["two"]["losses"]) < 10


def test_clipping_limits_the_gradients_of_a_batch_on_any_number_of_devices(seen):
    assert len(seen["one_clipped"]) == 3
    for name, weights in seen["one_clipped"].items():
        assert_close(weights, seen["two_clipped"][name])
        assert len({str(weights), str(seen["one_synchronized"]["weights"])}) == 2, name


def test_clipping_limits_gradients_of_few_rows_of_an_embedding(seen):
    assert_close(seen["one_embedded"], seen["two_embedded"])


def test_each_device_draws_dropout_of_its_own_and_the_same_when_run_again(seen):
    one, two = seen["dropped"]["one"], seen["dropped"]["two"]
    masks = [mask for step in two for mask in step]
    assert len({str(mask) for mask in masks}) == 4
    for first in range(4):
        for second in range(first):
            equal = np.equal(masks[first], masks[second]).mean()
            assert 0.3 < equal < 0.7  # 0.5 for masks that have nothing to do.
    assert [step[0] for step in two] == one
    assert two == seen["dropped"]["again"]


def test_choosing_the_same_devices_again_takes_the_same_strategy(seen):
    # With another one, TensorFlow ends the training of a model of other shapes.
    assert seen["same_strategy"]


def test_synchronized_batch_normalization_trains_as_on_one_device(seen):
    one, two = seen["one_synchronized"], seen["two_synchronized"]
    assert_close(one["weights"], two["weights"])
    assert_close(one["losses"], two["losses"])


def test_strategy_only_where_tensorflow_would_not_go_by_itself(seen):
    assert seen["strategies"] == ["NoneType", "MirroredStrategy", "OneDeviceStrategy"]
    assert seen["second_device"].endswith("CPU:1")


def test_description_says_global_batch_and_unscaled_rate(seen):
    assert seen["describe"] == (
        "2 devices (CPU:0, CPU:1), MirroredStrategy: global batch 64 = 2 x 32, "
        "learning rate 0.001 (as given, not scaled), precision float32."
    )


def test_mirrored_takes_all_devices_of_the_machine(seen):
    assert seen["mirrored"] == ["CPU:0", "CPU:1"]


@pytest.mark.usefixtures("dtype_policy")
def test_mirrored_on_one_device_is_said_to_be_one(seen):
    said = placement.choose(strategy="mirrored").describe(64, 0.001)
    assert said.startswith("1 device (CPU:0), no strategy: batch 64, ")


def test_strategy_turns_off_xla_and_several_steps_per_execution(seen):
    assert seen["options"] == {"jit_compile": False, "steps_per_execution": 1}


def test_batch_size_must_divide_and_the_nearest_are_named(seen):
    assert seen["batch_size"]["8"] is None
    assert seen["batch_size"]["7"] == (
        "`batch_size` must be a multiple of 2, the number of devices. "
        "Received: batch_size=7. The nearest: 6 or 8."
    )
    assert seen["batch_size"]["1"].endswith("The nearest: 2.")


def test_unknown_device_is_refused_with_those_there_are(seen):
    assert seen["device"] == (
        "`devices` must be one of: CPU:0, CPU:1. Received: devices='CPU:7'. "
        "Did you mean CPU:1 or CPU:0?"
    )


def test_device_named_twice_is_refused(seen):
    assert "name each device once" in seen["twice"]


@pytest.mark.parametrize("case", ["outside", "other_scope", "rewrapped"])
def test_model_built_outside_the_scope_is_refused(seen, case):
    assert "`with placement.scope():`" in seen[case]


@pytest.mark.parametrize(
    ("case", "layer"), [("nested", "bn"), ("wrapped", "inside"), ("unfrozen", "bn")]
)
def test_batch_normalization_that_trains_uses_the_rows_of_all_devices(
    seen, case, layer
):
    assert seen[case] == [[], [layer]]


def test_models_that_train_right_are_accepted(seen):
    assert seen["frozen"] == [None, [[], []]]
    assert seen["on_one"] is None
    assert seen["on_second"] is None


@pytest.mark.usefixtures("dtype_policy")
@pytest.mark.parametrize("precision", placement.PRECISIONS)
def test_precision_becomes_the_policy_of_new_layers(precision):
    where = placement.choose(["CPU:0"], precision=precision)
    assert where.precision == precision
    assert keras.layers.Dense(1).dtype_policy.name == precision


@pytest.mark.usefixtures("dtype_policy")
def test_refused_choice_leaves_the_policy_alone():
    with pytest.raises(InputError):
        placement.choose(["TPU:9"], precision="mixed_bfloat16")
    assert keras.config.dtype_policy().name == "float32"


def test_unknown_precision_names_the_nearest():
    with pytest.raises(InputError, match="Did you mean mixed_bfloat16"):
        placement.choose(precision="bfloat16")


@pytest.mark.parametrize("devices", ["CPU:0", []])
def test_devices_must_be_a_list_of_names(devices):
    with pytest.raises(InputError, match="`devices` must be a list such as"):
        placement.choose(devices)


@pytest.mark.usefixtures("dtype_policy")
def test_other_backends_get_no_strategy_and_no_tensorflow(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    where = placement.choose()
    assert where == Placement(None, ("torch default",), "float32")
    with where.scope():
        placement.check_model(where, keras.Sequential())
    with pytest.raises(InputError, match="KERAS_BACKEND=torch"):
        placement.choose(["CPU:0"])


def described(workers):
    """Return a `TF_CONFIG` of these workers, of which this is the first."""
    return json.dumps({"cluster": {"worker": workers}, "task": {"index": 0}})


@pytest.mark.parametrize(
    ("strategy", "workers", "problem"),
    [
        ("multiworker", ["a:1"], "must be auto or mirrored on one machine"),
        ("mirrored", ["a:1", "b:1"], "must be auto or multiworker where TF_CONFIG"),
        ("parameters", ["a:1"], "must be one of"),
    ],
)
def test_a_strategy_that_the_machines_cannot_have_is_refused(
    monkeypatch, strategy, workers, problem
):
    monkeypatch.setenv("TF_CONFIG", described(workers))
    with pytest.raises(InputError, match=f"`strategy` {problem}"):
        placement.choose(strategy=strategy)


@pytest.fixture
def compared(monkeypatch):
    """What `from_settings` has all workers compare, call by call."""
    compared = []

    def choose(about, **options):
        compared.append(about)
        return Placement(None, ("CPU:0",), "float32")

    monkeypatch.setattr(placement, "choose", choose)
    return compared


def test_workers_go_on_from_the_same_files_of_an_interrupted_run(tmp_path, compared):
    settings = TinyConfig(resume=tmp_path, out=tmp_path)
    for content in ("a", "ab"):
        (tmp_path / "trial.json").write_text(content)
        placement.from_settings(settings)
    one, other = (about["files of the interrupted run"] for about in compared)
    assert one != other
    assert one.startswith("1 file, ")
    # Paths, and what changes no result, may differ from machine to machine.
    assert {"setting `seed`", "setting `batch_size`"} < {*compared[0]}
    assert not {"setting `out`", "setting `resume`", "setting `cache`"} & {*compared[0]}
    # Also where one of them begins anew.
    placement.from_settings(TinyConfig())
    assert compared[-1]["files of the interrupted run"] == "none"


def test_data_may_be_at_a_path_of_their_own_on_each_worker(tmp_path, compared):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        placement.from_settings(Train(str(tmp_path / name)))
    assert compared[0] == compared[1]


def test_a_batch_that_cannot_be_divided_is_refused_before_the_data_are_read(
    monkeypatch,
):
    two = Placement(None, ("CPU:0", "CPU:1"), "float32")
    monkeypatch.setattr(placement, "choose", lambda **options: two)
    with pytest.raises(InputError, match="multiple of 2, the number of devices"):
        placement.from_settings(TinyConfig(batch_size=33))


@dataclass(frozen=True)
class TinyConfig(RunSettings, TrainingSettings):
    """Settings of a recipe"""


def test_several_machines_take_all_devices_they_have(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", described(["a:1", "b:1"]))
    with pytest.raises(InputError, match="`devices` must be None"):
        placement.choose(["CPU:0"])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cluster": 2}', '{"cluster": null}'])
def test_malformed_cluster_description_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match="`TF_CONFIG` must be a JSON object"):
        placement.choose()


@pytest.mark.usefixtures("dtype_policy")
@pytest.mark.parametrize("config", [{}, {"cluster": {"worker": ["a:1"]}}])
def test_cluster_of_one_machine_is_accepted(monkeypatch, config):
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert placement.choose(["CPU:0"]).replicas == 1


@pytest.mark.parametrize("batch_size", [0, -2, 8.0, "8", True, False, None])
def test_batch_size_must_be_a_positive_integer(batch_size):
    with pytest.raises(InputError, match="`batch_size` must be a positive integer"):
        placement.check_batch_size(Placement(None, ("CPU:0",), "float32"), batch_size)


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("fpu avx2", "float32"),
        ("fpu avx512f avx512_bf16 avx512_fp16", "mixed_bfloat16"),
        ("fpu amx_bf16", "mixed_bfloat16"),
    ],
)
def test_auto_precision_is_what_the_processor_says(
    flags, precision, monkeypatch, tmp_path
):
    (tmp_path / "cpuinfo").write_text(f"model name : x\nflags : {flags}\n")
    monkeypatch.setattr(placement, "CPU_INFO", tmp_path / "cpuinfo")
    where = placement.choose(["CPU:0"], precision="auto")
    assert where.precision == precision
    monkeypatch.setattr(placement, "CPU_INFO", tmp_path / "absent")
    assert placement.choose(["CPU:0"], precision="auto").precision == "float32"


@pytest.mark.parametrize(
    ("capability", "has"), [((7, 5), False), ((8, 0), True), ((9, 0), True)]
)
def test_auto_precision_is_what_every_gpu_says(capability, has, monkeypatch):
    import tensorflow as tf

    details = [{"compute_capability": (9, 0)}, {"compute_capability": capability}]
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [0, 1])
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda gpu: details[gpu]
    )
    assert placement._has_bfloat16(("GPU:0", "GPU:1")) is has
