"""Export a finished run: a folder that needs neither keras-tl nor its run.

It holds the model in the format of a runtime, `contract.json` (how inputs are prepared,
names, calibration, what was measured), features of training examples, for texts the
tokenizer, and `predict.py`, a short program that needs the runtime alone. What the
export says is compared with what the model says, on real examples; one that differs is
not written.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np

from keras_tl import config, environment, errors, files
from keras_tl.analysis import unlike
from keras_tl.data import datasets, images, tables, text
from keras_tl.data.sources import NOUNS, Source
from keras_tl.data.splits import Split, Splits, balanced
from keras_tl.deploy import artifact as artifacts
from keras_tl.deploy import (
    conversion,
    exemplars,
    exported,
    prediction,
    run_data,
    standalone,
    update_data,
)
from keras_tl.models import catalog, taps


@dataclass(frozen=True)
class Format:
    """A format that a model can be exported to.

    Attributes:
        model: Path of the model in the folder of the export.
        modules: Modules that conversion and runtime need, besides TensorFlow.
        tolerance: Largest difference of logits that is allowed, as a multiple of the
            largest logit where that is above 1; `None` allows any.
        agreement: Smallest share of equal answers that is allowed, in [0, 1].
    """

    model: str
    modules: tuple[str, ...]
    tolerance: float | None = 1e-3
    agreement: float = 0.99


FORMATS = {
    "litert": Format("model.tflite", ("ai_edge_litert",)),
    # Eight bits move every logit; what counts is the answer.
    "litert-int8": Format("model.tflite", ("ai_edge_litert",), None, 0.9),
    "onnx": Format("model.onnx", ("tf2onnx", "onnx", "onnxruntime")),
    # TensorFlow Serving expects a folder of versions.
    "savedmodel": Format("saved_model/1", ()),
    "keras": Format("model.keras", ()),
}

# Most examples that logits are compared on, and that int8 is calibrated with.
MOST_COMPARED, MOST_CALIBRATED = 256, 500
# Embeddings of training examples, beside the model.
EXAMPLES = "examples.npy"
# Fewest examples that int8 can be calibrated with and compared on.
FEWEST = 10
# Texts to compare logits on where those of the run cannot be loaded again.
TEXTS = (
    "A film that stays with you long after the lights have come on.",
    "Two hours of my life that nobody will give back to me.",
    "The train to the coast leaves at half past nine.",
    "It is neither good nor bad, and that is the worst of it!",
    "Please send the invoice again; the first one was never received.",
    "Rain in the morning, some sun after noon.",
    "Wonderful acting, a dull plot, and music that is far too loud.",
    "Why would anybody watch this twice?",
)


@dataclass(frozen=True)
class Parity:
    """How far an export and its model agree, on the same examples.

    Attributes:
        examples: Number of the examples.
        origin: Where they come from.
        agreement: Share of equal answers: of the likeliest class, or of several labels
            whether each is there; `None` for numbers.
        difference: Largest difference of logits.
        largest: Largest absolute value of the model's logits.
    """

    examples: int
    origin: str
    agreement: float | None
    difference: float
    largest: float

    def __str__(self) -> str:
        same = ""
        if self.agreement is not None:
            same = f"the same answer to {100 * self.agreement:.1f} %, "
        return (
            f"On {errors.counted(self.examples, 'example')} ({self.origin}): {same}"
            f"logits up to {self.largest:.3g} differ by at most {self.difference:.2g}."
        )


@dataclass(frozen=True)
class Examples:
    """Examples that an export is made and measured with, as the model takes them.

    Attributes:
        compared: Those that the logits are compared on.
        origin: Where they come from.
        calibration: Representative ones for int8; `None` where there are none.
        splits: The data of the run, where they could be loaded again.
    """

    compared: Source
    origin: str
    calibration: Source | None = None
    splits: Splits | None = None


def export(
    run: Path | str,
    format: str,
    folder: Path | str,
    *,
    sample: Path | str | None = None,
    data: Splits | None = None,
    tolerance: float | None = None,
    agreement: float | None = None,
) -> dict:
    """Export the model of a finished run into a new folder, in one step.

    Args:
        run: Folder of the run.
        format: A key of `FORMATS`.
        folder: The new folder.
        sample: Folder of images or of clips, or file or folder of texts, see
            `tables.texts`, like those that the model is for, to compare logits on and
            to calibrate int8 with. By default those of the run's data, validation and
            train; where these are gone, those that the run has kept; and where there
            are none and int8 is not asked for, some that travel with the package.
        data: The splits of the run, which are loaded again by its settings otherwise.
        tolerance: Largest difference of logits that is allowed, see `Format`.
        agreement: Smallest share of equal answers that is allowed, in [0, 1].

    Returns:
        What `contract.json` holds.

    Raises:
        InputError: An unknown format, a folder that exists, no finished run, a runtime
            that is not installed, no representative examples, a layer that the format
            cannot hold, or an export that differs from its model by more than allowed.
    """
    chosen = _chosen(format, tolerance, agreement)
    files.check_new(folder)
    model = artifacts.load(run)
    if None in model.manifest["input"]["shape"]:
        raise errors.InputError(
            f"{run} takes images of any size, and an export has to know one: train "
            "with --image-size."
        )
    examples = _examples(model, format, sample, data)
    network = model.model
    sixteen = conversion.layers_of_16_bits(network)
    if sixteen:
        print(
            f"The model computes with {sixteen}. Its weights are exported as float32, "
            "and the export computes with float32: it is compared with the model in "
            "float32."
        )
        network = conversion.in_float32(network)
    if format.startswith("litert"):
        conversion.check_litert(network)
    print(f"Converting to {format}.", flush=True)
    with files.atomic_folder(folder) as temporary:
        needs = _needs(model, format)
        whole = _outputs(model, network)
        contract = _contract(model, whole, format, chosen)
        contract["requirements"] = standalone.requirements(format, model.kind, needs)
        _write_program(model, contract, needs, temporary)
        path = temporary / chosen.model
        path.parent.mkdir(exist_ok=True)
        is_int8, has_embedding = format == "litert-int8", "embedding" in whole.output
        if is_int8:
            _convert_to_int8(network, whole, path, examples.calibration)
        else:
            _convert(model, whole, format, path)
        if has_embedding and is_int8:
            contract["unlike"] = _unlike_of_int8(temporary, contract, examples)
        elif has_embedding:
            _keep_known(model.examples.embeddings, temporary)
        logits = exported.load(temporary)
        parity = _compare(model, network, logits, contract, examples)
        print(parity)
        _check(parity, chosen)
        contract["parity"] = asdict(parity)
        if format == "litert-int8" and examples.splits is not None:
            contract["accuracy"] = _accuracy(model, network, logits, examples.splits)
        contract["files"] = _listed(temporary)
        files.write_json(temporary / "contract.json", contract)
    return contract


def _chosen(format, tolerance, agreement) -> Format:
    """Return a format with the limits that are given, once it can be used."""
    if format not in FORMATS:
        raise errors.unknown("format", format, FORMATS)
    known = FORMATS[format]
    for module in known.modules:
        errors.check_installed(module, extra="export")
    if tolerance is not None:
        errors.check_above("tolerance", tolerance, 0)
    if agreement is not None and not 0 <= agreement <= 1:
        raise errors.expected("agreement", "be in [0, 1]", agreement)
    return Format(
        known.model,
        known.modules,
        known.tolerance if tolerance is None else tolerance,
        known.agreement if agreement is None else agreement,
    )


# %% Examples


def _examples(model, format, sample, data) -> Examples:
    """Find real examples, and say which they are."""
    if sample is not None:
        return _of_path(model, Path(sample))
    nouns = NOUNS[model.kind]
    try:
        if data is None:
            data = update_data.data_of(model)
        else:
            data = data.map(lambda part: run_data.prepare(model, part))
    except errors.InputError as error:
        reason = str(error).rstrip(".")
        kept = exemplars.of_run(model)
        if kept is not None:
            print(f"Compared on {nouns} that the run has kept, since {reason}.")
            return Examples(
                _some(kept.validation, MOST_COMPARED),
                f"validation {nouns} that the run has kept",
                _some(kept.train, MOST_CALIBRATED),
            )
        if format == "litert-int8":
            raise errors.InputError(
                "litert-int8 needs representative examples of the kind that the model "
                f"is for, and {reason}. Name some with --examples PATH."
            ) from error
        return _of_our_own(model, reason)
    print("Compared on the run's validation examples.")
    return Examples(
        _some(data.validation, MOST_COMPARED),
        "validation examples of the run",
        _some(data.train, MOST_CALIBRATED),
        data,
    )


def _some(split: Split, count: int) -> Source:
    """Return examples of a split, balanced over the classes where there are such."""
    if split.labels.ndim == 1:
        return split.inputs.take(balanced(split.labels, count, 0))
    rows = np.linspace(0, len(split) - 1, min(count, len(split))).round()
    return split.inputs.take(np.unique(rows.astype("int64")))


def _of_path(model, path) -> Examples:
    """Return the examples that a user names."""
    nouns = NOUNS[model.kind]
    named = _texts(path) if model.kind == "text" else _files(model, path)
    if len(named) < FEWEST:
        raise errors.expected(
            "examples",
            f"hold at least {FEWEST} {nouns} that can be used",
            str(path),
            f"It holds {len(named)}.",
        )
    print(f"Compared on {nouns} of {path}.")
    # None that int8 was calibrated with.
    compared, others = named[::2][:MOST_COMPARED], named[1::2][:MOST_CALIBRATED]
    return Examples(
        model.source(compared), f"{nouns} of {path.name}", model.source(others)
    )


def _files(model, folder) -> list[Path]:
    errors.check_folder("examples", folder)
    kind = prediction.FILES[model.kind]
    paths, problems = prediction.find([folder], kind)
    bad = {name for name, _ in [*problems, *prediction.check_files(paths, kind)]}
    return [path for path in paths if str(path) not in bad]


def _texts(path) -> tuple[str, ...]:
    if not path.is_dir():
        texts, problems = tables.texts(path)
        if problems:
            where, problem = problems[0]
            raise errors.InputError(f"{where} {problem}.")
        return tuple(texts)
    read = [text.read_file(file) for file in sorted(path.rglob("*.txt"))]
    return tuple(one for one in read if one.strip())


def _of_our_own(model, reason) -> Examples:
    """Return examples that travel with the package."""
    if model.kind == "text":
        print(f"Compared on {len(TEXTS)} sentences of keras-tl's own, since {reason}.")
        return Examples(model.source(TEXTS), "sentences of keras-tl's own")
    if model.kind == "audio":
        print(f"Compared on {MOST_COMPARED} sounds of keras-tl's own, since {reason}.")
        return Examples(model.source(_sounds(model)), "sounds of keras-tl's own")
    print(f"Compared on the sample of CIFAR-10, since {reason}.")
    split = datasets.sample().at_size(model.image_size, model.resize).validation
    return Examples(_some(split, MOST_COMPARED), "the sample of CIFAR-10")


def _sounds(model) -> np.ndarray:
    """Return tones that rise or fall, in some noise, as the model takes them."""
    (samples,) = model.manifest["input"]["shape"]
    rng = np.random.default_rng(0)
    first, last = rng.uniform(0.02, 0.5, (2, MOST_COMPARED, 1))
    phases = np.cumsum(first + (last - first) * np.linspace(0, 1, samples), axis=1)
    sounds = 0.5 * np.sin(phases) + 0.01 * rng.standard_normal(phases.shape)
    return sounds.astype("float32")


# %% Files


def _outputs(model, network) -> keras.Model:
    """Return the model with named outputs: logits, and what the rule `unlike` needs."""
    outputs = {"logits": network.outputs[0]}
    if None not in (model.rules.unlike, model.examples):
        outputs = {**outputs, **taps.with_features(network).output}
        outputs.pop("feature_map", None)
    return keras.Model(network.inputs, outputs, name=network.name)


def _keep_known(embeddings, folder) -> None:
    """Write the embeddings of training examples, in the precision of a run."""
    np.save(folder / EXAMPLES, embeddings.astype("float16"))


def _unlike_of_int8(folder, contract, examples) -> dict:
    """Keep what int8 itself makes of training examples, and choose its threshold.

    Rounding moves embeddings, so that the distances to those of the model are larger.
    """
    compute, dtype = exported.load(folder, "embedding"), contract["input"]["dtype"]
    known = exported.run(compute, examples.calibration, dtype)
    _keep_known(known, folder)
    known = np.load(folder / EXAMPLES).astype("float32")
    distances = unlike.distance(exported.run(compute, examples.compared, dtype), known)
    return {**contract["unlike"], "threshold": unlike.threshold(distances)}


def _convert(model, whole, format, path):
    """Write the model into its file or folder."""
    if format == "savedmodel":
        conversion.saved_model(whole, path)
    elif format == "onnx":
        conversion.onnx(whole, path)
    elif format == "litert":
        conversion.litert(whole, path)
    else:
        whole.save(path)


def _convert_to_int8(network, whole, path, calibration: Source):
    """Write the model in int8, its mean logits those of the model.

    Rounding moves the mean of each logit. The bias of the classifier takes that back,
    as measured on the examples of the calibration: the bias correction of Nagel et al.,
    Data-free quantization through weight equalization and bias correction, 2019,
    arXiv:1906.04721, of the last layer alone.
    """
    dtype = network.inputs[0].dtype
    inputs = calibration.read(range(len(calibration))).astype(dtype)
    sample = [inputs[row : row + 1] for row in range(len(inputs))]
    conversion.litert(whole, path, sample)
    last = taps.last_dense(network)
    if last is None or last.bias is None:
        return
    before = last.bias.numpy()
    logits = exported.load(path.parent)
    shift = np.mean(network.predict(inputs, verbose=0) - logits(inputs), axis=0)
    try:
        last.bias.assign_add(shift)
        conversion.litert(whole, path, sample)
    finally:
        last.bias.assign(before)


def _contract(model, whole, format, chosen) -> dict:
    """Describe what the exported model takes and gives."""
    spec, rules = model.manifest["input"], model.rules
    inputs = {
        # Of one example; `None` takes any number at a time.
        "batch": 1 if format.startswith("litert") else None,
        "shape": spec["shape"],
        "dtype": whole.inputs[0].dtype,
    }
    far = None
    if "embedding" in whole.output:
        # Of the distance to the training example of this rank, see `unlike.distance`.
        far = {
            "threshold": max(rules.unlike, 1e-6),
            "neighbours": min(unlike.NEIGHBOURS, len(model.examples.embeddings)),
            "examples": EXAMPLES,
        }
    if model.kind == "image":
        inputs |= {
            "axes": ["height", "width", "channel"],
            "channels": "RGB",
            "range": [0, 255],
            "resize": model.resize,
            "resize_rule": images.RESIZE[model.resize],
            "preprocessing": "inside the model",
        }
    elif model.kind == "audio":
        inputs |= {"axes": ["sample"], "range": [-1, 1]}
        inputs |= {n: spec[n] for n in ("rate", "noise", "preprocessing")}
    else:
        inputs |= {"tokenizer": text.FILE, "preprocessing": spec.get("preprocessing")}
    return {
        "format": format,
        "model": chosen.model,
        "kind": model.kind,
        "input": inputs,
        "outputs": {n: list(x.shape[1:]) for n, x in whole.output.items()},
        "class_names": list(model.class_names),
        "activation": model.activation,
        "temperature": rules.temperature,
        "abstain": None if rules.abstain is None else asdict(rules.abstain),
        "thresholds": None if rules.thresholds is None else list(rules.thresholds),
        "unlike": far,
        "run": {
            "name": model.folder.resolve().name,
            "recipe": model.manifest.get("recipe"),
            "date": model.manifest.get("date"),
            "model_sha256": model.manifest["model_sha256"],
        },
        "backbone_licence": _licence(model),
        "versions": _versions(chosen),
    }


def _licence(model) -> str | None:
    """Return the licence of the backbone's weights, where the catalog states it."""
    path = model.folder / "config.json"
    settings = config.current(files.read_json(path)) if path.exists() else {}
    name = settings.get("backbone")
    if not isinstance(name, str) or settings.get("weights") not in ("imagenet", None):
        return None
    try:
        return catalog.find(catalog.width(name)[0]).licence or None
    except errors.InputError:
        return None


def _versions(chosen) -> dict:
    versions = environment.versions()
    for module in chosen.modules:
        versions[module] = environment.version(module.replace("_", "-"))
    return versions


def _needs(model, format) -> list[str]:
    """List the modules whose layers have to be known when a model is loaded."""
    uses_hub = format == "keras" and artifacts.uses_hub(model.folder / "model.keras")
    return ["keras_hub"] * uses_hub


def _write_program(model, contract, needs, folder) -> None:
    """Write `predict.py`, and what it needs besides the model."""
    files.write_json(folder / "contract.json", contract)
    if model.kind == "text":
        text.Tokenizer.load(model.folder / text.FILE).export(folder / text.FILE)
    files.write_text(folder / "predict.py", standalone.program(contract, needs))


def _listed(folder) -> dict:
    """Return size and hash of the files of an export."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": files.sha256(path),
        }
        for path in paths
        if path.name != "contract.json"
    }


# %% Measurements


def _compare(model, network, logits, contract, examples) -> Parity:
    """Compare the logits of an export with those of its model."""
    found, wanted = (
        exported.run(compute, examples.compared, network.inputs[0].dtype)
        for compute in (logits, network.predict_on_batch)
    )
    if not np.isfinite(wanted).all():
        raise errors.InputError(
            f"The model of {model.folder} returns NaN or infinity: training diverged."
        )
    if found.shape != wanted.shape:
        raise errors.InputError(
            f"The export returns the shape {found.shape}, and the model "
            f"{wanted.shape}: it is not written."
        )
    agreement = None
    if model.activation == "softmax":
        agreement = float((found.argmax(1) == wanted.argmax(1)).mean())
    elif model.activation == "sigmoid":
        values = (model.rules.values(one, "sigmoid") for one in (found, wanted))
        first, second = map(model.rules.present, values)
        agreement = float((first == second).mean())
    difference = float(np.abs(found - wanted).max())
    return Parity(
        len(wanted),
        examples.origin,
        agreement,
        difference if np.isfinite(difference) else float("inf"),
        float(np.abs(wanted).max()),
    )


def _check(parity: Parity, chosen: Format) -> None:
    """Refuse an export that differs from its model by more than allowed."""
    differs = []
    if parity.agreement is not None and parity.agreement < chosen.agreement:
        differs.append(
            f"it gives the same answer to {100 * parity.agreement:.1f} % of "
            f"{errors.counted(parity.examples, 'example')}, and at least "
            f"{100 * chosen.agreement:g} % are wanted (--agreement)"
        )
    if chosen.tolerance is not None:
        allowed = chosen.tolerance * max(1.0, parity.largest)
        if not parity.difference <= allowed:
            differs.append(
                f"logits differ by up to {parity.difference:.3g}, and at most "
                f"{allowed:.3g} is allowed (--tolerance {chosen.tolerance:g})"
            )
    if differs:
        raise errors.InputError(
            f"The export differs from its model and is not written: "
            f"{'; '.join(differs)}. Compared on {parity.origin}."
        )


def _accuracy(model, network, logits, data: Splits) -> dict:
    """Evaluate an export on the test split beside its model, with a paired test."""
    from keras_tl.analysis import evaluation, summary

    evaluate = summary.EVALUATIONS[model.manifest.get("objective", "single-label")]
    before, after = (
        evaluate(
            data.test.labels,
            exported.run(compute, data.test.inputs, network.inputs[0].dtype),
            data.class_names,
            train_labels=data.train.labels,
        )
        for compute in (network.predict_on_batch, logits)
    )
    paired = evaluation.compare(before, after)
    print(
        f"{before.metric} on {len(data.test):,} test examples: float "
        f"{before.format(before.value)}, int8 {after.format(after.value)}: "
        f"{after.difference(paired)}, {paired.verdict}."
    )
    return {
        "metric": before.metric,
        "test_examples": len(data.test),
        "float": {"value": before.value, "interval": list(before.interval)},
        "int8": {"value": after.value, "interval": list(after.interval)},
        "comparison": paired.as_dict(),
    }
