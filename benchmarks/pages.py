"""benchmarks/README.md, made of the files in benchmarks/results."""

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from keras_tl import files

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
HEAD = """\
# Benchmarks

What the core does, beside what a user would otherwise write, in the same run. Each
round runs every case once, in random order, each in a process of its own; a ratio is
formed inside a round, the median over rounds is shown with the lowest and the highest.
What else the machine does slows both sides alike: ratios can be compared, the rates of
different runs cannot. Weights and pixels are random: what is measured here is speed;
accuracies are in the README of the project.

    pip install -e ".[bench]"
    python -m benchmarks --list
    python -m benchmarks augmentation_32          # measure and show
    python -m benchmarks augmentation_32 --keep   # and write results/ and this page
"""


def table(result: dict) -> tuple[list[str], list[list[str]]]:
    """Make the table of one benchmark: head and rows."""
    head = [
        "case",
        f"{result['item']}s a second",
        result["ratio"],
        "the same in CPU seconds",
        "wanted",
        "peak MiB",
    ]
    rows = []
    for case, measured in result["cases"].items():
        rate = measured["items_per_second"]["median"]
        ratio = result["ratios"].get(case)
        rows.append(
            [
                case,
                f"{rate:,.3g}" if rate < 100 else f"{rate:,.0f}",
                _ratio(ratio["wall"]) if ratio else "",
                _ratio(ratio["cpu"]) if ratio else "",
                _wanted(result, case),
                f"{measured['peak_mib']:,.0f}",
            ]
        )
    rows += [[case, "skipped", "", "", "", ""] for case in result["missing"]]
    return head, rows


def _ratio(spread: dict) -> str:
    median, low, high = (spread[key] for key in ("median", "lowest", "highest"))
    return f"{median:.3g} ({low:.3g} to {high:.3g})"


def _wanted(result: dict, case: str) -> str:
    for name in ("at_least", "at_most"):
        if case in result[name]:
            return f"{name.replace('_', ' ')} {result[name][case]:g}"
    return ""


def page() -> str:
    """Make the text of benchmarks/README.md."""
    results = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(RESULTS.glob("*.json"))
    }
    texts = [HEAD, goals(results)]
    texts += [speed(name, result) for name, result in results.items()]
    for name, section in SECTIONS.items():
        path = _path(name)
        if path.exists():
            texts.append(section(json.loads(path.read_text(encoding="utf-8"))))
    return "\n".join(text.rstrip() + "\n" for text in texts)


def goals(results: dict[str, dict]) -> str:
    """Make the table of all ratios that are wanted, and what was measured."""
    rows = []
    for name, result in results.items():
        for case in [*result["at_least"], *result["at_most"]]:
            if case not in result["ratios"]:
                continue
            ratio = result["ratios"][case]["wall"]["median"]
            reached = ratio >= result["at_least"].get(case, 0) and ratio <= (
                result["at_most"].get(case, float("inf"))
            )
            # A time as a share of another is of the other way round.
            beside = case if result["at_least"] else f"{case}, {result['ours']}"
            rows.append(
                [
                    f"[{name}](#{name})",
                    beside,
                    f"{ratio:.3g}",
                    _wanted(result, case),
                    "yes" if reached else "**no**",
                ]
            )
    return _table(["benchmark", "beside", "measured", "wanted", "reached"], rows)


def speed(name: str, result: dict) -> str:
    """Make the section on one benchmark of speed."""
    skipped = [f"Skipped: {case}, {why}." for case, why in result["missing"].items()]
    measured = f"{result['rounds']} rounds on {_machine(result)}."
    return _section(
        name,
        f"{result['title']}. Limit: {result['limit']}.",
        _table(*table(result)),
        "\n".join([*skipped, measured]),
    )


def copies(result: dict) -> str:
    """Make the section on augmented copies."""
    rows = []
    for name, runs in result["ways"].items():
        accuracy = [run["accuracy"] for run in runs]
        spread = f"{min(accuracy):.3f} to {max(accuracy):.3f}"
        seconds = statistics.median(run["seconds"] for run in runs)
        rows.append(
            [name, f"{statistics.mean(accuracy):.3f} ({spread})", f"{seconds:.0f}"]
        )
    return _section(
        "copies",
        "What augmentation gains on a frozen backbone, and costs: a head on "
        f"EfficientNet-Lite0, 96 px, {result['epochs']} epochs on the CIFAR-10 "
        "sample. Copies run through the network once; new changes in every epoch "
        "run every time. `python -m benchmarks.copies --keep`.",
        _table(
            ["augmentation", f"test accuracy, {len(runs)} seeds", "seconds"],
            rows,
        ),
        f"On {_machine(result)}.",
    )


def growth(result: dict) -> str:
    """Make the section on numbers of images."""
    rows = []
    for count, rounds in result["counts"].items():
        made, read, peak = (
            statistics.median(one[name] for one in rounds)
            for name in ("made_ms", "read_ms", "peak_mib")
        )
        times = (f"{value:.2f}" for value in (made, read, made + read))
        rows.append([f"{int(count):,}", *times, f"{peak:,.0f}"])
    return _section(
        "growth",
        "Whether time and memory of one image depend on how many there are: "
        "features of a frozen EfficientNet-Lite0, 96 px, made into a cache on disk "
        "and read back in training order, ten epochs. Memory is what the process "
        "cannot give back. `python -m benchmarks.growth --keep`.",
        _table(
            [
                "images",
                "CPU ms an image, making",
                "reading ten times",
                "both",
                "peak MiB",
            ],
            rows,
        ),
        f"Medians of {len(rounds)} rounds on {_machine(result)}.",
    )


def serving(result: dict) -> str:
    """Make the section on the server under load."""
    columns = ("connections", "images_per_second", "p50_ms", "p99_ms", "errors")
    rows = [[f"{row[name]:,}" for name in columns] for row in result["rows"]]
    return _section(
        "serving",
        "`keras-tl serve` under load: EfficientNet-Lite0, 224 px, LiteRT; one JPEG "
        "of 640 x 480 in each request, the clients on the same cores. Wanted: one at a "
        "time p50 12 ms, p99 22; 8 at once 59, 144 and 111 images a second; ready "
        "within 3 s, under 1,000 MiB. `python -m benchmarks.serving --keep`.",
        _table(
            ["connections", "images a second", "p50 ms", "p99 ms", "errors"],
            rows,
        ),
        f"Ready in {result['ready_seconds']:.1f} s, {result['mib']:,} MiB. "
        f"On {_machine(result)}.",
    )


def ranking(result: dict) -> str:
    """Make the section on ranking backbones."""
    trials, summary = result["trials"], result["summary"]
    targets = list(dict.fromkeys(one["target"] for one in trials))
    scores = []
    for score in dict.fromkeys(one["score"] for one in summary):
        of_score = {one["target"]: one for one in summary if one["score"] == score}
        tau = statistics.mean(one["tau"] for one in of_score.values())
        regret = [one["regret"] for one in of_score.values()]
        backbones = max(one["backbones"] for one in of_score.values())
        scores.append(
            [
                score.replace("imagenet_accuracy", "ImageNet accuracy"),
                f"{backbones}",
                f"{tau:.2f}",
                *(
                    f"{of_score[t]['tau']:.2f}" if t in of_score else ""
                    for t in targets
                ),
                f"{100 * statistics.mean(regret):.1f} ({100 * max(regret):.1f})",
            ]
        )
    accuracies = []
    for name in dict.fromkeys(one["name"] for one in trials):
        by_target = {o["target"]: o["accuracy"] for o in trials if o["name"] == name}
        cells = [f"{by_target[t]:.3f}" if t in by_target else "" for t in targets]
        accuracies.append([name, *cells])
    return _section(
        "ranking",
        "Whether scores of frozen features predict which backbone is best when "
        "fine-tuned: weighted tau between score and test accuracy (1 is the same "
        "order, 0 is none), and regret in points: by how much the backbone with "
        "the highest score stays below the best, the mean over targets and the "
        f"largest. At most {result['limits']['train']} training, "
        f"{result['limits']['validation']} validation and {result['limits']['test']} "
        f"test images of {result['size']} px; a head, then the last quarter of the "
        "blocks, one seed; two backbones are random. LEEP and NCE need the "
        "ImageNet classifier, which some files have not. "
        "`python -m benchmarks.ranking DATA WEIGHTS --keep`.",
        _table(["score", "backbones", "mean tau", *targets, "regret"], scores),
        "Test accuracy after fine-tuning:",
        _table(["backbone", *targets], accuracies),
        f"{result.get('date', '')}, {_machine(result)}; seed {result['seed']}.",
    )


def forecast(result: dict) -> str:
    """Make the section on forecasts of accuracy."""
    rows = [
        [
            one["target"],
            f"{one['times']}",
            f"{one['forecasts']}",
            f"{100 * one['inside']:.0f} %",
            f"{100 * one['error']:.1f}",
            f"{100 * one['width']:.1f}",
        ]
        for one in result["summary"]
    ]
    head = ["data", "times the examples", "forecasts", "inside", "error", "width"]
    return _section(
        "forecast",
        "How often the 90 % interval of `keras-tl curve` holds the accuracy that was "
        "measured with two or four times the examples, which the forecast has not "
        "seen; the mean error of the forecast, and the width of the interval, in "
        f"points. {result['seeds']} draws for each of three backbones, one of them "
        f"with random weights; images of {result['size']} px, "
        f"{100 * result['held']:.0f} % of all are for validation. "
        "`python -m benchmarks.forecast DATA --keep`.",
        _table(head, rows),
        f"{result['date']}, {_machine(result)}; seeds 0 to {result['seeds'] - 1}.",
    )


def diagnosis(result: dict) -> str:
    """Make the section on faults that were planted."""
    trials = result["trials"]
    tables = []
    for hidden in (False, True):
        of = [trial for trial in trials if trial["hidden"] == hidden]
        if not of:
            continue
        kinds = list(dict.fromkeys(trial["kind"] for trial in of))
        rows = []
        for kind in kinds:
            same = [trial for trial in of if trial["kind"] == kind]
            right = [trial["verdict"] == trial["wanted"] for trial in same]
            rows.append(
                [
                    kind.replace("_", " "),
                    same[0]["about"],
                    same[0]["wanted"],
                    f"{sum(right)} of {len(right)}",
                    "; ".join(
                        f"{trial['verdict']} ({trial['target']})"
                        for trial, is_right in zip(same, right, strict=True)
                        if not is_right
                    ),
                ]
            )
        wanted = sorted({trial["wanted"] for trial in of})
        given = sorted({trial["verdict"] for trial in of} | set(wanted))
        confusion = [
            [
                name,
                *(
                    f"{sum((t['wanted'], t['verdict']) == (name, one) for t in of)}"
                    for one in given
                ),
            ]
            for name in wanted
        ]
        about = "Kinds that were known while it was built"
        if hidden:
            about = "Kinds by another hand, which were not used while it was built"
        tables += [
            f"{about}: {len(kinds)}, mean recall {mean_recall(of):.3f}.",
            _table(["wanted", *given], confusion),
            _table(["kind", "what is wrong", "wanted", "named", "otherwise"], rows),
        ]
    limits = result["limits"]
    return _section(
        "diagnosis",
        "What `keras-tl diagnose` names where one fault was planted in a run: a linear "
        "head on the frozen embedded backbone, on three data sets of at most "
        f"{limits['train']} training, {limits['validation']} validation and "
        f"{limits['test']} test images of {result['size']} px. Rows of the first table "
        "are what is wrong, columns the verdict. Recall is the mean over the kinds. "
        "`python -m benchmarks.diagnosis DATA --keep`.",
        *tables,
        f"{result['date']}, {_machine(result)}; seed {result['seed']}.",
    )


def mean_recall(trials: list[dict]) -> float:
    """Compute which share of the trials of a kind has the right verdict, on average."""
    named = [trial["verdict"] == trial["wanted"] for trial in trials]
    kinds = [trial["kind"] for trial in trials]
    shares = [
        statistics.mean(n for n, k in zip(named, kinds, strict=True) if k == kind)
        for kind in dict.fromkeys(kinds)
    ]
    return statistics.mean(shares)


def accuracy(result: dict) -> str:
    """Make the section on accuracy in a given time."""
    from keras_tl.analysis.evaluation import wilson_interval

    trials = result["rows"]
    names = list(dict.fromkeys(trial["name"] for trial in trials if trial["minutes"]))
    rows = []
    for key in dict.fromkeys((trial["target"], trial["minutes"]) for trial in trials):
        cells = []
        same = [t for t in trials if (t["target"], t["minutes"]) == key]
        for name in names if key[1] else ["quickstart"]:
            of_name = [trial for trial in same if trial["name"] == name]
            if not of_name:
                cells.append("")
                continue
            mean = statistics.mean(trial["accuracy"] for trial in of_name)
            count = of_name[0]["test"]
            low, high = wilson_interval(round(mean * count), count)
            seconds = max(trial["seconds"] for trial in of_name)
            seeds = f", {len(of_name)} seeds" if len(of_name) > 1 else ""
            cells.append(
                f"{mean:.3f} ({low:.3f} to {high:.3f}{seeds}), {seconds:.0f} s"
            )
        if not key[1]:
            cells = [f"quickstart: {cells[0]}", *[""] * (len(names) - 1)]
        rows.append([key[0], f"{key[1]:g}" if key[1] else "its own", *cells])
    return _section(
        "accuracy",
        "Test accuracy in a given time, with its 95 % Wilson interval over test "
        "images, of one seed unless more are named: the same images in the same "
        "splits, the same backbone and weights, the same minutes; seconds are from the "
        "start of each process to its exit. `quickstart` takes as long as it does. The "
        "guide's code has no time of its own; it gets half of the minutes for the head "
        "and half for fine-tuning. PyTorch's tutorial and fastai's `fine_tune` get as "
        "many epochs as there is time for; `lr_find` runs before it where that takes "
        "at most a fifth. All but `keras-tl train`, which chooses, and `quickstart` "
        "see images of 160 px. "
        "`python -m benchmarks.accuracy DATA --keep`.",
        _table(["images", "minutes", *names], rows),
        f"{result['date']}, {_machine(result)}.",
    )


def checks(result: dict) -> str:
    """Make the section on what the check of data notices."""
    clean = [
        [
            row["target"],
            f"{row['images']:,}",
            *(str(row[severity]) for severity in ("error", "warning", "note")),
            f"{row['seconds']:.0f}",
        ]
        for row in result["clean"]
    ]
    faults = []
    for row in result["faults"]:
        noticed = [f"{code} ({kind})" for code, kind in row["severity"].items()]
        right = f"{row['files_right']} of {row['files_named']}"
        faults.append(
            [
                row["fault"],
                row["target"],
                ", ".join(noticed) or "**nothing**",
                f"{row['planted']:,}",
                right if row["files_named"] else "",
                ", ".join(row["others"]),
            ]
        )
    return _section(
        "checks",
        "What `keras-tl check` raises on clean data: errors and warnings are false "
        "alarms there, notes are worth a look. The thresholds were chosen with these "
        "data among others.",
        _table(
            ["images", "number", "errors", "warnings", "notes", "seconds"],
            clean,
        ),
        "And what it notices where a fault is planted, with the files that it names: "
        "so many of them right, where leaving files out is a remedy. "
        "`python -m benchmarks.checks DATA --keep`.",
        _table(
            ["fault", "images", "noticed as", "planted", "files right", "beside it"],
            faults,
        ),
        f"{result['date']}, {_machine(result)}.",
    )


def exports(result: dict) -> str:
    """Make the section on the formats of exports."""
    rows = []
    for run in result["runs"]:
        side = f", {run['input'][0]} px" if len(run["input"]) == 3 else ""
        name = f"{run['model']}{side}"
        for row in run["rows"]:
            if "refused" in row:
                rows.append([name, row["format"], f"refused: {row['refused']}"])
                rows[-1] += [""] * 6
                continue
            parity = row["parity"]
            low, high = row["interval"]
            accuracy = f"{row['accuracy']:.3f} ({low:.3f} to {high:.3f})"
            verdict = row["verdict"] or ""
            rows.append(
                [
                    name,
                    row["format"],
                    f"{row['megabytes']:.2f}",
                    f"{row['milliseconds']:.1f}",
                    f"{row['seconds_to_load']:.1f}",
                    f"{row['peak_mib']:,.0f}",
                    accuracy + (f"; {verdict}" if verdict else ""),
                    f"{100 * parity['agreement']:.1f} % of {parity['examples']}",
                    f"{parity['difference']:.1e}",
                ]
            )
    head = ["model", "format", "MB", "ms", "s to load", "peak MiB"]
    head += ["test accuracy", "same answer", "largest difference of logits"]
    return _section(
        "exports",
        "What `keras-tl export` writes, in each format: size of the model's files, "
        "median time of one example without its preparation, time until the first "
        "answer and most memory of a process that runs its `predict.py`, accuracy on "
        "the run's test split with its 95 % Wilson interval (of int8 with the paired "
        "test against float), and how far it agrees with the Keras model on validation "
        "examples. The weights of MobileNetV2 are torchvision's, whose kernels are "
        "kept turned, with images that are not. "
        "`python -m benchmarks.exports RUN... --keep`.",
        _table(head, rows),
        f"{result['date']}, {_machine(result)}.",
    )


def answers(result: dict) -> str:
    """Make the section on how far answers can be believed."""
    calibrated, told = [], []
    for row in result["rows"]:
        precision = row["precision"]
        calibrated.append(
            [
                row["target"],
                f"{row['test']:,}",
                f"{row['accuracy']:.3f}",
                f"{row['temperature']:.2f}",
                f"{row['error_before']:.3f}",
                f"{row['error_after']:.3f}",
                f"{row['coverage']:.3f}",
                "" if precision is None else f"{precision:.3f}",
            ]
        )
        for other, scores in row["told"].items():
            told.append([row["target"], other, *(f"{s:.3f}" for s in scores.values())])
    names = list(result["rows"][0]["told"][told[0][1]])
    return _section(
        "answers",
        f"A model of `keras-tl train --minutes {result['minutes']:g}` on each dataset, "
        "judged on its test images: the expected calibration error with and without "
        "the temperature that validation chose, the share of the images that it "
        "answers where 95 % of the answers are to be right, and how many are.",
        _table(
            [
                *("images", "test", "accuracy", "temperature", "error before"),
                *("after", "coverage", "precision"),
            ],
            calibrated,
        ),
        "How well a score tells test images from those of another dataset, as the area "
        f"under the ROC curve. `keras-tl predict` takes the {result['taken']}, chosen "
        "by this table. `python -m benchmarks.answers DATA --keep`.",
        _table(["model of", "images of", *names], told),
        f"{result['date']}, {_machine(result)}.",
    )


def equality_table(result: dict) -> str:
    """Make the table of several devices against one."""
    rows = [
        [
            row["engine"],
            f"{row['devices']}",
            row["model"],
            "new every epoch" if row["augmented"] else "none",
            *(
                f"{row[name]:.0e}" if row[name] else "0"
                for name in ("weights", "nudged", "losses")
            ),
            f"{row['moved']:.2g}",
        ]
        for row in result["rows"]
    ]
    head = ["engine", "devices", "model", "augmentation", "weights apart"]
    head += ["one device, start nudged", "losses apart"]
    return _table([*head, "weights moved"], rows)


def equality(result: dict) -> str:
    """Make the section on several devices against one."""
    return _section(
        "equality",
        "How far the weights of several devices are from those of one device, for the "
        "same global batches: the largest difference of any weight, and of the loss of "
        "any epoch, beside how far training moves a weight at most. Sums in another "
        "order differ in their last digits, which training can make more of; the same "
        "happens on one device whose start is nudged by a last digit of each weight "
        "(1e-7 of it, with bfloat16 1/256). "
        f"{result['images']} images of the CIFAR-10 sample, {result['epochs']} epochs, "
        f"batch {result['batch']}, SGD with momentum; a device is a part of the "
        "processor. `python -m benchmarks.equality --keep`.",
        equality_table(result),
        f"{result['date']}, {_machine(result)}; JAX {result['versions']['jax']}.",
    )


def worker_faults_table(result: dict) -> str:
    """Make the table of faults of workers."""
    rows = [
        [
            row["fault"],
            row["happened"],
            f"{row['status']}",
            f"{row['seconds']:.0f}",
            row["lost"],
        ]
        for row in result["rows"]
    ]
    head = ["fault", "what the other worker says", "status", "seconds to the end"]
    return _table([*head, "lost"], rows)


def worker_faults(result: dict) -> str:
    """Make the section on faults of workers."""
    return _section(
        "worker_faults",
        "What happens to `keras-tl run quickstart` on two workers, processes of one "
        "machine, when something is wrong with one of them: what the other says, its "
        "exit status, the seconds from the fault, or for what is refused from the "
        "start, until both have ended, and what is lost, after `--resume` where a run "
        "was begun. Weights and numbers are compared bit for bit with a run of two "
        "workers without a fault. `python -m benchmarks.worker_faults --keep`.",
        worker_faults_table(result),
        f"{result['date']}, {_machine(result)}.",
    )


def worker_scaling_table(result: dict) -> str:
    """Make the table of two workers against one."""
    rows = []
    for row in result["rows"]:
        low, middle, high = row["speed_up"]
        rows.append(
            [
                row["case"],
                *(f"{row['seconds'][name]:.1f}" for name in _PROCESSES),
                f"{middle:.2f} ({low:.2f} to {high:.2f})",
                f"{50 * middle:.0f} %",
            ]
        )
    titles = [f"{name}, seconds" for name in _PROCESSES]
    head = ["what", *titles, "two workers, times as fast as one core"]
    return _table([*head, "efficiency"], rows)


# What `worker_scaling` compares.
_PROCESSES = ("one core", "two cores", "two workers")


def worker_scaling(result: dict) -> str:
    """Make the section on two workers against one."""
    return _section(
        "worker_scaling",
        "Two workers with one core of a processor each, against one process on one "
        "core and on two: seconds for the features of "
        f"{result['images']} images, or for an epoch of training with them in batches "
        f"of {result['batch']} over all workers, medians of {result['rounds']} rounds. "
        "They exchange gradients over the loopback device. "
        "`python -m benchmarks.worker_scaling --keep`.",
        worker_scaling_table(result),
        f"{result['date']}, {_machine(result)}.",
    )


def two_workers(result: dict) -> str:
    """Make the section on every recipe on two workers."""
    head = ["recipe", "ended well", "files of worker 1", "numbers compared"]
    head += ["accuracies apart", "others apart", "tested on", "dropout"]
    rows = []
    for row in result["recipes"]:
        ended = "yes" if "numbers" in row else _how_it_ended(row)
        cells = [row["recipe"], ended, *[""] * 5, row.get("random", "")]
        if "numbers" in row:
            alone, together = row["tested"]
            same = f"the same {alone}" if row["same"] else f"{together} of {alone}"
            cells[2:7] = [
                ", ".join(row["wrote"]) or "none",
                f"{row['numbers']:,}",
                *(_apart(row[name]) for name in ("accuracies", "others")),
                same if alone else "",
            ]
        rows.append(cells)
    return _section(
        "two_workers",
        "Every recipe as two processes of one machine, each with folders of its own, "
        "beside one process alone: whether both ended well, what the second has left "
        "on its disk, and the largest differences of what was measured, of accuracies "
        "and of all else, such as losses. Tiny settings, random weights for the most. "
        "Devices draw dropout of their own: where there is some, it was switched off "
        "for both. Sums in another order differ in their last digits: an example on "
        "the edge between two classes then counts for an accuracy of few, and networks "
        "that train BatchNormalization (`pretrain_then_transfer`, "
        "`self_supervised_cifar10`) make more of it. "
        "`python -m benchmarks.two_workers --keep`.",
        _table(head, rows),
        f"{result['date']}, {_machine(result)}.",
    )


def injected_faults(result: dict) -> str:
    """Make the section on faults that were injected into runs."""
    rows = [
        [one["fault"], one["happened"].replace("|", "\\|"), one["lost"]]
        for rows in result["groups"].values()
        for one in rows
    ]
    return _section(
        "injected_faults",
        "What is lost when something fails: runs of some seconds are killed (SIGKILL), "
        "their disks (real ones in memory) full or read-only, their files damaged, "
        "their folders moved. Nothing is lost where weights, metrics, history and "
        "predictions equal those of a run without a fault, bit for bit, and the folder "
        "has the same files; of a study, the results of its trials. Empty where there "
        "is no run to compare. Each row is one kill or one fault, or as many as it "
        "says: examples, no rates. `python -m benchmarks.injected_faults --keep`.",
        _table(["fault", "what happened", "lost"], rows),
        f"On {_machine(result)}.",
    )


def _how_it_ended(row: dict) -> str:
    """Describe a run that has no results."""
    if row["statuses"][1:] == [2, 2]:
        return f"refused: {row['error'].partition('error: ')[2]}"
    hanging = None in row["statuses"]
    return "**no**: it took too long" if hanging else f"**no**: {row['error']}"


def _apart(value: float) -> str:
    return f"{value:.0e}" if value else "0"


# Name of a benchmark with a folder in results -> its section.
SECTIONS = {
    "equality": equality,
    "worker_scaling": worker_scaling,
    "worker_faults": worker_faults,
    "two_workers": two_workers,
    "serving": serving,
    "answers": answers,
    "checks": checks,
    "copies": copies,
    "growth": growth,
    "ranking": ranking,
    "forecast": forecast,
    "diagnosis": diagnosis,
    "accuracy": accuracy,
    "exports": exports,
    "injected_faults": injected_faults,
}


def _section(name: str, *blocks: str) -> str:
    return "\n\n".join([f"## {name}", *blocks])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Make a table in Markdown."""
    return "\n".join(
        [
            f"| {' | '.join(head)} |",
            "| --- " * len(head) + "|",
            *(f"| {' | '.join(row)} |" for row in rows),
        ]
    )


def _machine(result: dict) -> str:
    """Describe what a result was measured on: the machine, its load, the versions."""
    machine, versions = result["machine"], result["versions"]
    instructions = machine.get("instructions")
    extra = f" with {instructions}" if instructions else ""
    backend = f"TensorFlow {versions['tensorflow']}"
    if result.get("backend") == "jax":
        backend = f"JAX {versions.get('jax', '')}"
    load = result["load"]
    return (
        f"{machine['cores']} cores, {machine['processor']}{extra}"
        f"{'' if load is None else f', with a load of {load:.1f}'}; "
        f"Keras {versions['keras']}, {backend}"
    )


def _path(name: str) -> Path:
    """Return the file of the result of one of `SECTIONS`."""
    return RESULTS / name / f"{name}.json"


def keep(name: str, result: dict) -> None:
    """Write the result of one of `SECTIONS`, and the page."""
    _path(name).parent.mkdir(parents=True, exist_ok=True)
    files.write_json(_path(name), result)
    write()


def write() -> None:
    """Write benchmarks/README.md, and what docs/ shows of results."""
    from benchmarks import scaling_page  # It makes its tables as this module does.

    files.write_text(FOLDER / "README.md", page())
    scaling_page.write()


def main() -> None:
    """Write the pages, or with --check exit with 1 where one is out of date."""
    from benchmarks import scaling_page

    if "--check" not in sys.argv:
        write()
        return
    shown = scaling_page.PAGE.read_text(encoding="utf-8")
    if (FOLDER / "README.md").read_text(encoding="utf-8") != page():
        sys.exit("benchmarks/README.md is out of date: python -m benchmarks.pages")
    if scaling_page.filled(shown) != shown:
        sys.exit(f"{scaling_page.PAGE} is out of date: python -m benchmarks.pages")


if __name__ == "__main__":
    main()
