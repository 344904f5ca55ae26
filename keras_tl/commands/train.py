"""Train a classifier for images of one's own in a given time.

The steps are those of the recipes: look at the data, put a head on a frozen backbone,
fine-tune its last blocks, let validation choose, and read the test images once.
"""

import functools
import logging
import time
from dataclasses import replace
from pathlib import Path

import keras_tl.quiet as quiet  # Before Keras.

import keras
import numpy as np

from keras_tl import config, errors, files
from keras_tl.analysis import (
    candidates,
    doctor,
    evaluation,
    findings,
    planner,
    probe,
    ranking,
    summary,
)
from keras_tl.analysis.planner import Decision
from keras_tl.commands.settings import Train
from keras_tl.data import augment, datasets, splits
from keras_tl.data.settings import AugmentSettings
from keras_tl.data.splits import Splits
from keras_tl.deploy import artifact, run_folder
from keras_tl.models import backbones, catalog, freezing, heads, hub_backbones
from keras_tl.training import objectives, phases, placement, speed, store

# Seconds for the figures, the report and the saved model.
RESERVE = 12.0
# Seconds for measuring, the classifiers on features, and tracing.
LEARNING = 15.0
# Part of the time that is planned for: machines are not as steady as a clock.
PLANNED = 0.95
# Minutes from which on the backbones at hand are ranked, on how many images.
RANKED, MOST_RANKED = 5.0, 400
PROBE, FROZEN, TUNED = "linear probe", "frozen", "fine-tuned"


def main(settings: Train) -> None:
    """Run the command; its time counts from the start of the program."""
    train(settings, started=quiet.STARTED)


def in_python(data: object, **options: object) -> artifact.Artifact:
    """Train on data of any kind, and load the model; see `keras_tl.train`."""
    errors.check_options(options, Train)
    named = isinstance(data, str | Path)
    name = str(data) if named else f"{type(data).__name__} in memory"
    folder = train(Train(name, **options), None if named else data)
    return artifact.load(folder)


def train(settings: Train, data: object = None, started: float | None = None) -> Path:
    """Train as the settings ask, and decide what they leave open.

    Args:
        settings: See `Train`.
        data: What `datasets.load` takes, in place of what `settings.data` names.
        started: Time of `time.perf_counter` from which the minutes count; now if
            `None`.

    Returns:
        Folder of the run.
    """
    started = time.perf_counter() if started is None else started
    end = end_of(settings, started)
    place, settings = placement.from_settings(settings)
    decisions = Decisions()
    settings, loaded = prepare_data(settings, data, end, decisions)
    with place.scope():
        model = build_model(settings, len(loaded.class_names))
    timed = settings.epochs is None
    settings = plan(settings, model, loaded, place, end, decisions)
    run = config.start_run("train", settings, started, splits.describe(loaded))
    decisions.keep(run)
    setup = setup_of(settings, loaded, place, run)
    plain = replace(setup, augment=None, mix=None)
    keras.utils.set_random_seed(settings.seed)

    freezing.unfreeze_head(model)
    tail, features = phases.precompute_frozen(model, loaded, plain)
    probe.fit_head(model, features)
    trained = {PROBE: model.get_weights()}
    outputs = {PROBE: predict(tail, features)}
    reset_head(model, loaded, settings.seed)
    head = phases.fit(tail, features, plain, phases.Phase(30, 1e-3))
    trained[FROZEN], outputs[FROZEN] = model.get_weights(), predict(tail, features)

    model.set_weights(trained[best(outputs, loaded, setup)])
    freezing.unfreeze_above(model, settings.freeze)
    phase = tuning(settings, end - RESERVE if timed else None)
    tuned = phases.fit(model, loaded, setup, phase)
    if any(tuned.get("kept", [])):
        trained[TUNED], outputs[TUNED] = model.get_weights(), predict(model, loaded)

    chosen = best(outputs, loaded, setup)
    decisions.add(Decision("model", chosen, reason_of(outputs, loaded, setup)))
    decisions.keep(run)
    model.set_weights(trained[chosen])
    # The report says what the saved model was trained in.
    freezing.unfreeze_above(model, settings.freeze if chosen == TUNED else "all")
    results = evaluate(outputs, chosen, loaded, setup)
    summary.show(results)
    warn_of_chance(results[chosen])
    run_folder.save(
        run,
        model,
        data=loaded,
        results=results,
        histories={"head": head, "fine-tuning": tuned},
        objective=setup.objective,
        cache=setup.cache,
        decisions=decisions.as_list(),
    )
    minutes = (time.perf_counter() - started) / 60
    print(f"{minutes:.1f} minutes, of {settings.minutes:g}.")
    kept, accuracies = tuned.get("kept", [0]), tuned.get("val_accuracy", [0])
    if kept[-1] and accuracies[-1] < 1:
        more = "--minutes" if timed else "--epochs"
        print(f"The last epoch was the best: with more {more} it may do better.")
    print("The same steps in a file to change: keras-tl copy quickstart my_recipe")
    return run.folder


def end_of(settings: Train, started: float) -> float:
    """Return the time of `time.perf_counter` that is planned for the end."""
    return started + PLANNED * 60 * settings.minutes


def warn_of_chance(result: summary.Result) -> None:
    """Warn of a model that is no better than one that looks at nothing."""
    low, high = result.interval
    if result.baseline is not None and low <= result.baseline <= high:
        errors.warn(
            f"The model is not clearly better than the {result.baseline_name}: "
            f"{result.baseline:.3f} lies in its interval, {low:.3f} to {high:.3f}."
        )


class Decisions:
    """The decisions of a run: printed, and kept in its folder."""

    def __init__(self):
        self._made: list[Decision] = []

    def add(self, decision: Decision) -> None:
        """Print a decision and keep it."""
        print(decision, flush=True)
        self._made.append(decision)

    def keep(self, run: config.Run) -> None:
        """Write the decisions to the folder of a run, after those that it has."""
        path = run.folder / "decisions.json"
        if run.settings.resume is not None and path.exists():
            before = [Decision(**one) for one in files.read_json(path)]
            # Those that are made again take the place of the earlier ones.
            self._made = list({d.name: d for d in (*before, *self._made)}.values())
        files.write_json(path, self.as_list())

    def as_list(self) -> list[dict]:
        """Return all decisions ready for JSON."""
        return [decision.as_dict() for decision in self._made]


# %% Data and model


def prepare_data(
    settings: Train, data: object, end: float, decisions: Decisions
) -> tuple[Train, Splits]:
    """Load the data, and choose image size, number and backbone on the way."""
    # Several models are traced; TensorFlow warns that this is slow.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    check_freeze(settings)
    backbone = settings.backbone or catalog.EMBEDDED
    chosen = settings.image_size
    if backbone.startswith(catalog.HUB):
        chosen = native_size(backbone, chosen)

    def choose(count: int, side: float) -> int:
        nonlocal chosen
        if chosen is not None:
            return chosen
        count = min(count, settings.limit or count)
        smallest = catalog.find(catalog.width(backbone)[0]).roomy_size
        forward = forward_of(backbone, 224)
        left = end - time.perf_counter() - RESERVE
        size = planner.image_size(count, side, smallest, forward, left)
        decisions.add(size)
        chosen = size.value
        return chosen

    loaded = load(settings, data, choose, decisions)
    print(loaded)
    if chosen is None:  # The images were not read from files.
        count = sum(len(split) for _, split in loaded.items())
        some = loaded.train.inputs.sizes(range(0, len(loaded.train), 1 + count // 100))
        choose(count, float(np.median([min(pair) for pair in some])))
    settings = replace(settings, image_size=chosen)
    sized = loaded.at_size(settings.image_size, settings.resize)
    if settings.backbone is None:
        settings = choose_backbone(settings, sized, decisions)
    settings = choose_limit(settings, sized, end, decisions)
    sized = planner.limited(sized, settings.limit, seed=settings.seed)
    single = sized.task == "single-label"
    if single and len(np.unique(sized.train.labels)) < 2:
        raise errors.expected(
            "limit", "leave training images of at least two classes", settings.limit
        )
    if settings.limit is not None:
        print(f"Of these are used: {splits.counts(sized)}.")
    return settings, sized.map(splits.read_once)


def forward_of(name: str, image_size: int) -> float:
    """Estimate the seconds of one image through a backbone, by those of a pixel."""
    return seconds_of_a_pixel(name) * image_size**2


@functools.cache
def seconds_of_a_pixel(name: str) -> float:
    """Measure a backbone at the size that it was trained on, once."""
    backbone = untrained(name)
    return speed.forward(backbone) / backbone.input_shape[1] ** 2


def untrained(name: str) -> keras.Model:
    """Load a backbone with random weights, at the size that it was trained on."""
    name, alpha = catalog.width(name)
    side = native_size(name)
    return backbones.load(name, weights=None, image_size=side, alpha=alpha)


def native_size(name: str, image_size: int | None = None) -> int:
    """Return the side of images that a backbone was trained on.

    Args:
        name: Name of the backbone, without a width.
        image_size: The side that is wanted, of a preset of KerasHub that may take it.
    """
    if name.startswith(catalog.HUB):
        return hub_backbones.size_of(name.removeprefix(catalog.HUB), image_size)
    return catalog.find(name).native_size


def check_freeze(settings: Train) -> None:
    """Raise `InputError` for an unknown block, where the backbone is known already."""
    known = (
        settings.backbone is not None
        or settings.minutes < RANKED
        or len(candidates.at_hand(settings.image_size)) == 1
    )
    if known and settings.freeze not in (None, "all", "none"):
        backbone = untrained(settings.backbone or catalog.EMBEDDED)
        freezing.unfreeze_above(backbone, settings.freeze)


def load(settings: Train, data: object, choose, decisions: Decisions) -> Splits:
    """Check the data and load them; what is wrong is refused, or left out.

    Raises:
        InputError: The check has noticed an error, unless bad images are skipped.
    """
    options = datasets.options_of(settings, image_size=choose)
    source = settings.data if data is None else data
    diagnosis = doctor.check(source, features=False, **options)
    for warning in diagnosis.named("warning"):
        errors.warn(f"{warning.message} {warning.remedy}")
    single = diagnosis.records.task == "single-label"
    if settings.class_weights and not single:
        raise errors.expected(
            "class_weights",
            f"be left out of data whose task is {diagnosis.records.task}",
            True,
        )
    weightable = single and not settings.class_weights
    for note in diagnosis.named("note"):
        if note.code == "class-imbalance" and weightable:
            print(f"{note.message} {note.remedy}")
    wrong = diagnosis.named("error")
    loaded = diagnosis.splits
    if wrong and settings.bad_files == "error":
        lines = [f"  {one.code}: {one.message}" for one in wrong]
        command = f"keras-tl check {files.quoted(settings.data)} --page check.html"
        hint = f"`{command}` shows more."
        if all(one.leave_out or one.surplus for one in wrong):
            hint += " --bad-files skip leaves these images out."
        raise errors.InputError(
            "\n".join([f"The check of {settings.data} has noticed:", *lines, hint])
        )
    if wrong:
        loaded = doctor.without_errors(diagnosis)
    texts = [errors.counted(len(diagnosis.named(s)), s) for s in findings.SEVERITIES]
    noticed = [
        {"code": one.code, "message": one.message, "page": one.page}
        for one in diagnosis.findings
        if one.severity != "note"
    ]
    decisions.add(Decision("data", ", ".join(texts), "see keras-tl check", noticed))
    return loaded


def choose_limit(
    settings: Train, data: Splits, end: float, decisions: Decisions
) -> Train:
    """Take a part of the data where there is no time for all of it."""
    if settings.limit is not None or settings.epochs:
        return settings
    forward = forward_of(settings.backbone, settings.image_size)
    left = end - time.perf_counter() - RESERVE - LEARNING
    tunes = settings.epochs is None and settings.freeze != "all"
    decision = planner.limit(data, forward, left, tunes=tunes)
    if decision is None:
        return settings
    decisions.add(decision)
    return replace(settings, limit=decision.value)


def choose_backbone(settings: Train, data: Splits, decisions: Decisions) -> Train:
    """Rank the backbones whose weights are on this machine, and choose the best."""
    at_hand = candidates.at_hand(settings.image_size)
    chosen, reason = catalog.EMBEDDED, "it is the only one on this machine"
    if len(at_hand) > 1 and data.task != "single-label":
        reason = "it travels with the package, and others are ranked for classes alone"
    elif len(at_hand) > 1 and settings.minutes < RANKED:
        reason = f"the others at hand are ranked from {RANKED:g} minutes on"
    elif len(at_hand) > 1:
        some = splits.limit(data, MOST_RANKED, seed=settings.seed)
        cache = store.Cache() if settings.cache else None
        ranked = ranking.rank(at_hand, some, cache=cache, seed=settings.seed)
        best = ranked.strongest.candidate
        chosen = (
            best.backbone if best.alpha is None else f"{best.backbone}:{best.alpha}"
        )
        reason = ranked.sentence()
        if ranked.strongest is not ranked.best:
            reason += f" {chosen} has the highest accuracy on ImageNet of these."
    decisions.add(Decision("backbone", chosen, reason))
    return replace(settings, backbone=chosen)


def build_model(settings: Train, outputs: int) -> keras.Model:
    """Put a new head on the pretrained backbone."""
    # Whatever was measured before, also where it was given instead.
    keras.utils.set_random_seed(settings.seed)
    name, alpha = catalog.width(settings.backbone)
    backbone = backbones.load(
        name,
        weights=settings.weights or "imagenet",
        image_size=settings.image_size,
        preprocessing=settings.preprocessing,
        alpha=alpha,
    )
    model = heads.attach(backbone, outputs)
    # Raises now for an unknown block.
    freezing.unfreeze_above(model, settings.freeze or "none")
    return model


# %% Plan


def plan(
    settings: Train,
    model: keras.Model,
    data: Splits,
    place: placement.Placement,
    end: float,
    decisions: Decisions,
) -> Train:
    """Decide how to fine-tune, and measure how many epochs there is time for."""
    if settings.epochs == 0 or settings.freeze == "all":
        rate = settings.learning_rate or 1e-4
        return replace(settings, epochs=0, freeze="all", learning_rate=rate)
    forward = speed.forward(model)
    names = ("freeze", "augment", "learning_rate")
    if any(getattr(settings, name) is None for name in names):
        measured = None
        if data.task == "single-label":
            measured = planner.measure_similarity(model, data, seed=settings.seed)
        left = end - time.perf_counter() - RESERVE
        room = planner.full_epochs(data, forward, left)
        blocks = freezing.blocks(model)
        for decision in planner.fine_tuning(data, blocks, measured, room):
            if getattr(settings, decision.name) is None:
                settings = replace(settings, **{decision.name: decision.value})
                decisions.add(decision)
    if settings.epochs is not None:
        return settings
    freezing.unfreeze_above(model, settings.freeze)
    setup = setup_of(settings, data, place)
    measured = speed.measure(model, data, setup, tuning(settings))
    others = (
        RESERVE + measured.start + forward * passes(data, measured.evaluate / forward)
    )
    left = end - time.perf_counter() - others
    steps = len(data.train) // settings.batch_size
    decision = planner.epochs(left, measured.epoch(data), measured.start, steps=steps)
    decisions.add(decision)
    needed = others + decision.value * measured.epoch(data)
    total = (time.perf_counter() + needed - end) / 60 + PLANNED * settings.minutes
    print(f"About {total:.1f} minutes in all, of {settings.minutes:g}.", flush=True)
    if total > 1.1 * settings.minutes:
        errors.warn("The minutes do not suffice for the least that can be done.")
    return replace(settings, epochs=decision.value)


def passes(data: Splits, tail: float) -> float:
    """Return how many images run through all of the backbone, besides its epochs.

    Args:
        data: The data.
        tail: Part of the backbone's time that the layers above the freeze point take.
    """
    learned = len(data.train) + len(data.validation)
    tested = len(data.validation) + len(data.test)
    judged = min(len(data.validation), run_folder.MOST_JUDGED)
    kept = min(len(data.train), run_folder.MOST_KEPT)
    # Features for the head, features below the freeze point, the tests of the end, and
    # the examples by which answers are judged.
    frozen = learned + len(data.test)
    return frozen + max(0.0, 1 - tail) * learned + tested + judged + kept


def tuning(settings: Train, until: float | None = None) -> phases.Phase:
    """Return the phase of fine-tuning."""
    epochs = 1 if settings.epochs is None else settings.epochs
    return phases.fine_tuning(
        epochs, settings.learning_rate, patience=max(5, epochs // 2), until=until
    )


def setup_of(
    settings: Train,
    data: Splits,
    place: placement.Placement,
    run: config.Run | None = None,
) -> phases.Setup:
    """Return the setup that all phases share."""
    objective = objectives.of(data)
    weights = None
    if settings.class_weights:
        weights = splits.class_weights(data.train.labels, len(data.class_names))
    changes = augment.from_settings(AugmentSettings(augment=settings.augment or "none"))
    return phases.Setup(
        place,
        settings.batch_size,
        settings.seed,
        objective,
        class_weights=weights,
        # As the models are chosen in the end.
        choose_by="accuracy" if data.task == "single-label" else "loss",
        cache=store.Cache() if settings.cache else None,
        state=run.state if run else None,
        **changes,
    )


# %% Models to choose from


def reset_head(model: keras.Model, data: Splits, seed: int) -> None:
    """Set the head of a model to random weights; numbers start at their mean."""
    layer = model.get_layer("logits")
    kernel, bias = (weight.shape for weight in layer.weights)
    random = keras.initializers.GlorotUniform(seed)(kernel)
    start = np.zeros(bias)
    if data.task == "regression":
        start = data.train.labels.mean(axis=0)
    layer.set_weights([keras.ops.convert_to_numpy(random), start])


def predict(model: keras.Model, data: Splits) -> dict[str, np.ndarray]:
    """Return the logits of the validation and the test images."""
    return {
        name: evaluation.predict(model, getattr(data, name))
        for name in ("validation", "test")
    }


def best(outputs: dict, data: Splits, setup: phases.Setup) -> str:
    """Return the model that validation chooses; of equal ones the simplest."""
    scores = validation_scores(outputs, data, setup)
    return max(scores, key=scores.get)


def validation_scores(outputs: dict, data: Splits, setup: phases.Setup) -> dict:
    """Return what validation chooses by, for each model: the higher, the better.

    Returns:
        Name -> accuracy and negative loss, which decides between equal accuracies; of
        data without classes, the negative loss alone.
    """
    labels, loss = data.validation.labels, setup.objective.loss()
    classes = data.task == "single-label"
    truth = np.eye(len(data.class_names))[labels] if classes else labels
    scores = {}
    for name, logits in outputs.items():
        scores[name] = (-float(loss(truth, logits["validation"])),)
        if classes:
            right = float((logits["validation"].argmax(1) == labels).mean())
            scores[name] = (right, *scores[name])
    return scores


def reason_of(outputs: dict, data: Splits, setup: phases.Setup) -> str:
    """Describe the scores of all models on validation."""
    scores = validation_scores(outputs, data, setup)
    metric = "accuracy (loss)" if data.task == "single-label" else "loss"
    texts = []
    for name, (*accuracy, loss) in scores.items():
        shown = f"{accuracy[0]:.3f} ({-loss:.3f})" if accuracy else f"{-loss:.3f}"
        texts.append(f"{name} {shown}")
    return f"validation {metric} of {', '.join(texts)}"


def evaluate(outputs: dict, chosen: str, data: Splits, setup: phases.Setup) -> dict:
    """Evaluate all models on the test images; the chosen one comes last."""
    names = [name for name in outputs if name != chosen]
    evaluation_of = summary.EVALUATIONS[setup.objective.name]
    return {
        name: evaluation_of(
            data.test.labels,
            outputs[name]["test"],
            data.class_names,
            train_labels=data.train.labels,
        )
        for name in (*names, chosen)
    }
