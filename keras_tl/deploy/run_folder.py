"""Save the model and the results of a run into its folder."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType

import keras
import numpy as np

from keras_tl import cluster, config, files
from keras_tl.analysis import (
    calibration,
    evaluation,
    explain,
    report,
    slices,
    summary,
    unlike,
)
from keras_tl.config import Run
from keras_tl.data import splits, text
from keras_tl.deploy import answers, exemplars
from keras_tl.models import freezing, saving, splitting, taps
from keras_tl.training import features, store
from keras_tl.training.objectives import Objective, SingleLabel

# Files that a model needs besides its own, where a run has them.
NEEDED = ("classes.json", text.FILE, answers.RULES, answers.EXAMPLES)

# Example of what `keras-tl predict` takes, by the kind of the inputs.
EXAMPLES = {"image": "IMAGE...", "audio": "CLIP...", "text": '"some text"'}


def save(
    run: Run | Path | str,
    model: keras.Model,
    *,
    data: splits.Splits,
    results: Mapping[str, evaluation.Evaluation] | None = None,
    histories: summary.Histories | None = None,
    objective: Objective | None = None,
    cache: store.Cache | None = None,
    decisions: Sequence[Mapping] = (),
    further: Mapping[str, object] = MappingProxyType({}),
) -> dict:
    """Write the files of a finished run, each in one step.

    `model.keras`, `classes.json`, `metrics.json`, `history.csv`, `predictions.csv`,
    `slices.csv` where something is known of test examples besides their labels,
    figures, `report.html`, what the inputs need (a tokenizer), how answers are judged
    (`answers.json`, `examples.npz`), what an update needs when the data are gone
    (`exemplars.zip`), and last `manifest.json`, which is there only when everything
    else is. What `--resume` needs is removed.

    Args:
        run: The run; in a script of your own, a new folder.
        model: The trained model; it is saved without its optimizer.
        data: The data it was trained on, as the model takes them.
        results: Name -> evaluation on the test split; the last is that of `model`. By
            default `model` is evaluated here.
        histories: Phase -> history, of the phases of `model`; none where nothing was
            trained by epochs, and then no `history.csv` and no curves.
        objective: Objective of the training; a single label by default.
        cache: The features that the run took from earlier ones, and computed itself.
        decisions: What was decided for the user, as `planner.Decision.as_dict` has it.
        further: Further entries of the manifest.

    Returns:
        What `metrics.json` holds.

    Raises:
        InputError: The disk is full, or the folder exists or cannot be written to.
    """
    objective = objective or SingleLabel()
    if results is None:
        tested = {"model": (model, data.test)}
        results = summary.evaluate_models(tested, data, objective)
    histories = {
        name: history for name, history in (histories or {}).items() if history
    }
    if not isinstance(run, Run):
        run = config.start_script(run, splits.describe(data))
    folder = run.folder
    saving.save(model, folder / "model.keras")
    data.test.inputs.save(folder)
    files.write_json(folder / "classes.json", list(data.class_names))
    *_, own = results.values()
    rules, seen = _keep_rules(folder, model, data, objective)
    files.write_json(folder / answers.RULES, asdict(rules))
    judgement = None
    if objective.activation in ("softmax", "sigmoid"):
        judgement = calibration.judge(rules, own.logits, own.labels)
    metrics = summary.metrics(results)
    if judgement:
        metrics["calibration"] = judgement.as_dict()
        print(*judgement.sentences, sep="\n")
    files.write_json(folder / "metrics.json", metrics)
    if histories:
        files.write_csv(folder / "history.csv", summary.history_rows(histories))
    rows = summary.prediction_rows(own, data.test)
    files.write_csv(folder / "predictions.csv", rows)
    by_slice = slices.find(own, data.test)
    if by_slice is not None:
        files.write_csv(folder / "slices.csv", by_slice.as_rows())
        if by_slice.worst.differs:
            print(by_slice.sentence)
    summary.save_figures(folder, results, histories, data.test, objective.metric)
    manifest = {
        **run.provenance(),
        **_durations(histories, cache),
        "decisions": list(decisions),
        "data": run.data,
        "model_name": model.name,
        "model_sha256": files.sha256(folder / "model.keras"),
        "files_sha256": {
            name: files.sha256(folder / name)
            for name in NEEDED
            if (folder / name).exists()
        },
        "input": _input(model, data),
        "objective": objective.name,
        "activation": objective.activation,
        "output": "logits, in the order of classes.json",
        "exemplars": exemplars.save(folder, data, _side(model, data)),
        **further,
    }
    settings = files.read_json(folder / "config.json")
    report.write(
        folder / "report.html",
        command=run.command,
        # What was not given, or is for other kinds of data, is no news.
        settings={name: one for name, one in settings.items() if one is not None},
        data=data,
        results=results,
        histories=histories,
        layers=freezing.report(model),
        manifest=manifest,
        judgement=judgement,
        metric=objective.metric,
        pieces=_pieces(folder, model, data.test, own),
        slices=by_slice,
        seen=seen,
    )
    files.write_json(folder / "manifest.json", manifest)
    shutil.rmtree(run.state, ignore_errors=True)
    if not cluster.is_chief():
        return metrics  # The folder is removed when this worker ends.
    rising = [name for name, history in histories.items() if _ends_best(history)]
    rising = [name for name in rising if _length(run, name)]
    # The last epoch says nothing where it is kept whatever it is.
    if rising and getattr(run.settings, "choose_by", None) != "last":
        print(
            f"The last epoch of {' and '.join(rising)} was the best: more may do "
            f"better. To try: {_longer(run, rising)}"
        )
    example = EXAMPLES[manifest["input"]["kind"]]
    print(
        f"Report: {folder / 'report.html'}. "
        f"To use the model: keras-tl predict {files.quoted(folder)} {example}"
    )
    return metrics


# Most validation examples by which answers are judged, and most training examples that
# are kept: a few seconds of a small backbone.
MOST_JUDGED, MOST_KEPT = 1000, 500


def _keep_rules(folder, model, data, objective) -> tuple:
    """Choose how logits become answers, and keep training examples beside the model.

    Returns:
        The rules; and indices of test examples with what the classifier takes for each,
        `None` where it is not known or not shown.
    """
    if data.test.inputs.kind == "image":
        data = data.at_size(model.inputs[0].shape[1])
    order = np.random.default_rng(0).permutation(len(data.validation))
    judged = data.validation.take(np.sort(order[:MOST_JUDGED]))
    outputs = taps.with_features(model).output
    if "embedding" not in outputs:
        logits = features.run(model, judged.inputs, title="calibrating")
        return calibration.rules_of(logits, judged.labels, objective.activation), None
    known = np.flatnonzero(data.train.known)
    chosen = splits.balanced(data.train.labels[known], MOST_KEPT, seed=0)
    kept = data.train.take(known[chosen])
    both = keras.layers.Concatenate(dtype="float32")(
        [outputs["logits"], outputs["embedding"]]
    )
    whole = keras.Model(splitting.inputs(model), both)
    columns = outputs["logits"].shape[-1]
    rows = features.run(whole, judged.inputs, title="calibrating")
    logits, embeddings = rows[:, :columns], rows[:, columns:]
    own = features.run(whole, kept.inputs, title="keeping examples")[:, columns:]
    rules = calibration.rules_of(
        logits,
        judged.labels,
        objective.activation,
        distances=unlike.distance(embeddings, own),
    )
    kernel, *_ = taps.last_dense(model).get_weights()
    examples = answers.Examples.of(kept, own, kernel)
    if objective.activation == "softmax":
        confidence, correct = rules.confidence(logits, judged.labels)
        examples = replace(examples, confidence=confidence, correct=correct)
    examples.save(folder / answers.EXAMPLES)
    if objective.activation == "linear":
        return rules, None
    shown = splits.balanced(data.test.labels, report.MOST_PLACED, seed=0)
    tested = data.test.take(shown).inputs
    return rules, (shown, features.run(whole, tested, title="mapping")[:, columns:])


def _pieces(folder, model, split, own) -> list | None:
    """Return the texts of the worst mistakes in pieces, with the weight of each."""
    if not (folder / text.FILE).exists() or own.labels.ndim != 1:
        return None
    indices = [index for index, *_ in own.mistakes(report.MOST_MISTAKES)]
    texts = split.inputs.preview(indices)
    tokenizer = text.Tokenizer.load(folder / text.FILE)
    weights = explain.token_weights(
        model, tokenizer.encode(texts), own.logits[indices].argmax(axis=1)
    )
    if weights is None:
        return None
    places = tokenizer.places(texts)
    return [*map(report.pieces_of, texts, places, weights)]


# Settings of the lengths of phases; those of all others are called `epochs`.
_EPOCHS = {"fine-tuning": "fine_tune_epochs", "from scratch": "scratch_epochs"}


def _longer(run, rising) -> str:
    """Return the command that trains longer: on from this run, where that is known."""
    command = run.command
    if hasattr(run.settings, "start_from"):
        command += f" --start-from {files.quoted(run.folder)}"
    for name in dict.fromkeys(_length(run, phase) for phase in rising):
        more = 2 * getattr(run.settings, name)
        command += f" --{name.replace('_', '-')} {more}"
    return command


def _length(run, phase) -> str | None:
    """Return the setting of the length of a phase, where there is one above 0."""
    own = getattr(run.settings, "LENGTHS", None)
    names = (
        [own.get(phase)]
        if own is not None
        else [_EPOCHS.get(phase, "epochs"), "epochs"]
    )
    known = [name for name in names if name and getattr(run.settings, name, 0)]
    return known[0] if known else None


def _ends_best(history) -> bool:
    kept = history.get("kept", [])
    return len(kept) > 1 and bool(kept[-1])


def _durations(histories, cache) -> dict:
    """Return how long the parts of a run took, and how many features it computed."""
    seconds = {
        name: round(sum(history["seconds"]), 1)
        for name, history in histories.items()
        if "seconds" in history
    }
    if not cache:
        return {"seconds_of_parts": seconds, "features": None}
    return {
        "seconds_of_parts": {"features": round(cache.seconds, 1), **seconds},
        "features": {"made": cache.made, "found": cache.found},
    }


def _side(model, data) -> int | None:
    """Return the side of the images that a model takes, if it takes such."""
    shape = model.inputs[0].shape
    return shape[1] if data.test.inputs.kind == "image" and len(shape) == 4 else None


def _input(model, data) -> dict:
    """Describe the input of the model: the source as it is before a stem has run."""
    spec = data.test.inputs.input_spec()
    tensor = model.inputs[0]
    return {**spec, "shape": list(tensor.shape[1:]), "dtype": tensor.dtype}
