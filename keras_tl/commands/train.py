"""Train a classifier for data of one's own in a given time.

The steps are those of the recipes: look at the data, put a head on a frozen backbone,
fine-tune its last blocks, let validation choose, and read the test examples once. What
differs between images, texts and sound is in a module of each, see `KINDS`.
"""

import logging
import time
from dataclasses import replace
from pathlib import Path

import keras_tl.quiet as quiet  # Before Keras.

import keras
import numpy as np

from keras_tl import config, errors, files
from keras_tl.analysis import (
    doctor,
    evaluation,
    findings,
    planner,
    probe,
    summary,
)
from keras_tl.analysis.planner import Decision
from keras_tl.commands import train_images, train_sound, train_texts
from keras_tl.commands.deciding import (
    PLANNED,
    RESERVE,
    Decisions,
    end_of,
    seconds_left,
)
from keras_tl.commands.settings import Train
from keras_tl.data import datasets, kinds, packs, splits, tables
from keras_tl.data.splits import Splits
from keras_tl.deploy import artifact, run_folder
from keras_tl.models import freezing, heads
from keras_tl.training import (
    objectives,
    phases,
    placement,
    speed,
    store,
    workers,
)

# Kind of the examples -> what is particular to it, in functions of the same names:
# `check` raises for settings that cannot be used, as early as the kind is known;
# `prepare` chooses backbone, size and number of examples, and returns the settings and
# the data as a model takes them; `build` returns the backbone, `transfers` whether it
# is pretrained; `decide` what is fine-tuned, and how, which are the settings `DECIDED`;
# `changes` returns the random changes of the training examples; `MOST_EPOCHS` suffice;
# `RECIPE` has the same steps.
KINDS = {"image": train_images, "text": train_texts, "audio": train_sound}
PROBE, FROZEN, TUNED = "linear probe", "frozen", "fine-tuned"
SCRATCH = "from scratch"


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
        model = build_model(settings, loaded)
    timed = settings.epochs is None
    settings = plan(settings, model, loaded, place, end, decisions)
    run = config.start_run("train", settings, started, splits.describe(loaded))
    decisions.keep(run)
    workers.agree(content_of_the_data=run.data["sha256"][:12])
    setup = setup_of(settings, loaded, place, run)
    plain = replace(setup, augment=None, mix=None)
    keras.utils.set_random_seed(settings.seed)

    random = model.get_weights()
    freezing.unfreeze_head(model)
    tail, features = phases.precompute_frozen(model, loaded, plain)
    probe.fit_head(model, features)
    trained = {PROBE: model.get_weights()}
    outputs = {PROBE: predict(tail, features)}
    reset_head(model, loaded, settings.seed)
    head = phases.fit(tail, features, plain, phases.Phase(30, 1e-3))
    trained[FROZEN], outputs[FROZEN] = model.get_weights(), predict(tail, features)

    transfers = kind_of(loaded).transfers(settings)
    tuning_name = TUNED if transfers else SCRATCH
    start = trained[best(outputs, loaded, setup)] if transfers else random
    model.set_weights(start)
    freezing.unfreeze_above(model, settings.freeze)
    phase = tuning(settings, loaded, end - RESERVE if timed else None)
    tuned = phases.fit(model, loaded, setup, phase)
    if any(tuned.get("kept", [])):
        trained[tuning_name] = model.get_weights()
        outputs[tuning_name] = predict(model, loaded)

    chosen = best(outputs, loaded, setup)
    decisions.add(Decision("model", chosen, reason_of(outputs, loaded, setup)))
    decisions.keep(run)
    model.set_weights(trained[chosen])
    # The report says what the saved model was trained in.
    freezing.unfreeze_above(model, settings.freeze if chosen == tuning_name else "all")
    results = evaluate(outputs, chosen, loaded, setup)
    summary.show(results, loaded.test.inputs.kind)
    warn_of_chance(results[chosen])
    run_folder.save(
        run,
        model,
        data=loaded,
        results=results,
        histories={"head": head, phase.name: tuned},
        objective=setup.objective,
        cache=setup.cache,
        decisions=decisions.as_list(),
    )
    minutes = (time.perf_counter() - started) / 60
    print(f"{minutes:.1f} minutes, of {settings.minutes:g}.")
    kept, accuracies = tuned.get("kept", [0]), tuned.get("val_accuracy", [0])
    if chosen == tuning_name and kept[-1] and accuracies[-1] < 1:
        more = "--minutes" if timed else "--epochs"
        print(f"The last epoch was the best: with more {more} it may do better.")
    recipe = kind_of(loaded).RECIPE
    print(f"Such steps in a file to change: keras-tl copy {recipe} my_recipe")
    return run.folder


def warn_of_chance(result: summary.Result) -> None:
    """Warn of a model that is no better than one that looks at nothing."""
    low, high = result.interval
    if result.baseline is not None and low <= result.baseline <= high:
        errors.warn(
            f"The model is not clearly better than the {result.baseline_name}: "
            f"{result.baseline:.3f} lies in its interval, {low:.3f} to {high:.3f}."
        )


# %% Data and model


def prepare_data(
    settings: Train, data: object, end: float, decisions: Decisions
) -> tuple[Train, Splits]:
    """Load the data, and decide what depends on them: see `prepare` of `KINDS`."""
    # Several models are traced; TensorFlow warns that this is slow.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    likely = settings.kind or likely_kind(settings.data if data is None else data)
    if likely is not None:
        settings.check_for(likely)
        KINDS[likely].check(settings)
    choose = train_images.side_chooser(settings, end, decisions)
    loaded = load(settings, data, choose, decisions)
    print(loaded)
    settings.check_for(loaded.train.inputs.kind)
    kind = kind_of(loaded)
    if loaded.train.inputs.kind != likely:
        kind.check(settings)
    settings, loaded = kind.prepare(settings, loaded, end, decisions)
    return settings, loaded.map(splits.read_once)


def likely_kind(data: object) -> str | None:
    """Return what examples probably are, before they are read; `None` if unknown."""
    if isinstance(data, Splits):
        return data.train.inputs.kind
    if packs.is_pack(data):
        return packs.kind_of(data)
    if not isinstance(data, str | Path) or not Path(data).is_dir():
        return None
    # What a table holds is known once it is read.
    if any(tables.is_table(path) for path in Path(data).iterdir()):
        return None
    return kinds.of_folder(Path(data), datasets.choices_of()).name


def kind_of(data: Splits):
    """Return the module of `KINDS` for the examples of some data.

    Raises:
        InputError: There is none for them.
    """
    name = data.train.inputs.kind
    if name not in KINDS:
        wanted = f"have examples of a kind among {', '.join(KINDS)}"
        raise errors.expected("data", wanted, name)
    return KINDS[name]


def load(settings: Train, data: object, choose, decisions: Decisions) -> Splits:
    """Check the data and load them; what is wrong is refused, or left out.

    Raises:
        InputError: The check has noticed an error, unless bad files are skipped.
    """
    window = train_sound.window(settings)
    options = datasets.options_of(settings, image_size=choose, **window)
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
            content = diagnosis.content
            nouns = content.kind.nouns if content else "examples"
            hint += f" --bad-files skip leaves these {nouns} out."
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


def build_model(settings: Train, data: Splits) -> keras.Model:
    """Put a new head on the backbone."""
    # Whatever was measured before, also where it was given instead.
    keras.utils.set_random_seed(settings.seed)
    model = heads.attach(kind_of(data).build(settings, data), len(data.class_names))
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
        if settings.epochs:
            errors.warn(
                "`epochs` has no effect: with `freeze=all` the head alone trains."
            )
        rate = settings.learning_rate or 1e-4
        return replace(settings, epochs=0, freeze="all", learning_rate=rate)
    kind = kind_of(data)
    forward = speed.forward(model, data.train.inputs)
    made: list[Decision] = []
    if any(getattr(settings, name) is None for name in kind.DECIDED):
        wanted = kind.decide(settings, model, data, forward, end)
        for one in workers.from_chief([decision.as_dict() for decision in wanted]):
            decision = Decision(**one)
            if getattr(settings, decision.name) is None:
                settings = replace(settings, **{decision.name: decision.value})
                made.append(decision)
    if settings.epochs is not None:
        decisions.extend(made)
        return settings
    freezing.unfreeze_above(model, settings.freeze)
    setup = setup_of(settings, data, place)
    measured = speed.measure(model, data, setup, tuning(settings, data))
    others = measured.start + forward * passes(data, measured.evaluate / forward)
    decision = planner.epochs(
        seconds_left(end) - others,
        measured.epoch(data),
        measured.start,
        steps=len(data.train) // settings.batch_size,
        most=kind.MOST_EPOCHS,
        transfer=kind.transfers(settings),
    )
    if not decision.value and any(one.name == "freeze" for one in made):
        # What was decided for epochs of which there is none would contradict it.
        reason = "there is no time for an epoch of more than the head"
        settings = replace(settings, freeze="all")
        made = [Decision("freeze", "all", reason)]
    decisions.extend([*made, decision])
    needed = RESERVE + others + decision.value * measured.epoch(data)
    total = (time.perf_counter() + needed - end) / 60 + PLANNED * settings.minutes
    print(f"About {total:.1f} minutes in all, of {settings.minutes:g}.", flush=True)
    if total > 1.1 * settings.minutes:
        errors.warn("The minutes do not suffice for the least that can be done.")
    return replace(settings, epochs=decision.value)


def passes(data: Splits, tail: float) -> float:
    """Return how many examples run through all of the backbone, besides its epochs.

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


def tuning(settings: Train, data: Splits, until: float | None = None) -> phases.Phase:
    """Return the phase of fine-tuning, or of training all from scratch."""
    epochs = 1 if settings.epochs is None else settings.epochs
    transfers = kind_of(data).transfers(settings)
    return phases.fine_tuning(
        epochs,
        settings.learning_rate,
        patience=max(5, epochs // 2),
        name="fine-tuning" if transfers else SCRATCH,
        keep_start=transfers,
        until=until,
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
        **kind_of(data).changes(settings, data),
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
    """Return the logits of the validation and the test examples."""
    return {
        name: evaluation.predict(model, getattr(data, name))
        for name in ("validation", "test")
    }


def best(outputs: dict, data: Splits, setup: phases.Setup) -> str:
    """Return the model that validation chooses; of equal ones the simplest."""
    scores = validation_scores(outputs, data, setup)
    return workers.from_chief(max(scores, key=scores.get))


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
    """Evaluate all models on the test examples; the chosen one comes last."""
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
