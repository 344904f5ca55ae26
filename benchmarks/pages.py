"""benchmarks/README.md, made of the files in benchmarks/results."""

import json
import statistics
import sys
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


def table(found: dict) -> tuple[list[str], list[list[str]]]:
    """Make the table of one benchmark: head and rows."""
    head = [
        "case",
        f"{found['item']}s a second",
        found["ratio"],
        "the same in CPU seconds",
        "wanted",
        "peak MiB",
    ]
    rows = []
    for case, measured in found["cases"].items():
        rate = measured["items_per_second"]["median"]
        ratio = found["ratios"].get(case)
        rows.append(
            [
                case,
                f"{rate:,.3g}" if rate < 100 else f"{rate:,.0f}",
                _ratio(ratio["wall"]) if ratio else "",
                _ratio(ratio["cpu"]) if ratio else "",
                _wanted(found, case),
                f"{measured['peak_mib']:,.0f}",
            ]
        )
    rows += [[case, "skipped", "", "", "", ""] for case in found["missing"]]
    return head, rows


def _wanted(found: dict, case: str) -> str:
    for name in ("at_least", "at_most"):
        if case in found[name]:
            return f"{name.replace('_', ' ')} {found[name][case]:g}"
    return ""


def goals(results: dict[str, dict]) -> str:
    """Make the table of all ratios that are wanted, and what was measured."""
    lines = [
        "| benchmark | beside | measured | wanted | reached |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, found in results.items():
        for case in [*found["at_least"], *found["at_most"]]:
            if case not in found["ratios"]:
                continue
            ratio = found["ratios"][case]["wall"]["median"]
            reached = ratio >= found["at_least"].get(case, 0) and ratio <= (
                found["at_most"].get(case, float("inf"))
            )
            # A time as a share of another is of the other way round.
            beside = case if found["at_least"] else f"{case}, {found['ours']}"
            lines.append(
                f"| [{name}](#{name}) | {beside} | {ratio:.3g} | "
                f"{_wanted(found, case)} | {'yes' if reached else '**no**'} |"
            )
    return "\n".join(lines) + "\n"


def _ratio(spread: dict) -> str:
    median, low, high = (spread[key] for key in ("median", "lowest", "highest"))
    return f"{median:.3g} ({low:.3g} to {high:.3g})"


def page() -> str:
    """Make the text of benchmarks/README.md."""
    results = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(RESULTS.glob("*.json"))
    }
    parts = [HEAD, goals(results)]
    for name, found in results.items():
        head, rows = table(found)
        about, versions = found["machine"], found["versions"]
        parts.append(
            "\n".join(
                [
                    f"## {name}",
                    "",
                    f"{found['title']}. Limit: {found['limit']}.",
                    "",
                    f"| {' | '.join(head)} |",
                    "| --- " * len(head) + "|",
                    *(f"| {' | '.join(row)} |" for row in rows),
                    "",
                    *(f"Skipped: {c}, {why}." for c, why in found["missing"].items()),
                    f"{found['rounds']} rounds on {_processor(about)}, with a load of "
                    f"{found['load']:.1f}; Keras "
                    f"{versions['keras']}, {_backend(found)}.",
                    "",
                ]
            )
        )
    parts = [
        part.rstrip() + "\n"
        for part in (*parts, copies(), growth(), ranking(), accuracy())
        if part
    ]
    return "\n".join(parts)


def _processor(machine):
    instructions = machine.get("instructions")
    extra = f" with {instructions}" if instructions else ""
    return f"{machine['cores']} cores, {machine['processor']}{extra}"


def _backend(found):
    versions = found["versions"]
    if found.get("backend") == "jax":
        return f"JAX {versions.get('jax', '')}"
    return f"TensorFlow {versions['tensorflow']}"


def copies() -> str:
    """Make the section on augmented copies, empty where nothing was measured."""
    path = RESULTS / "copies" / "copies.json"
    if not path.exists():
        return ""
    found = json.loads(path.read_text(encoding="utf-8"))
    lines = []
    for name, runs in found["ways"].items():
        accuracy = [run["accuracy"] for run in runs]
        seconds = statistics.median(run["seconds"] for run in runs)
        lines.append(
            f"| {name} | {statistics.mean(accuracy):.3f} ({min(accuracy):.3f} to "
            f"{max(accuracy):.3f}) | {seconds:.0f} |"
        )
    about, versions = found["machine"], found["versions"]
    return "\n".join(
        [
            "## copies",
            "",
            "What augmentation gains on a frozen backbone, and costs: a head on "
            f"EfficientNet-Lite0, 96 px, {found['epochs']} epochs on the CIFAR-10 "
            "sample. Copies run through the network once; new changes in every epoch "
            "run every time. `python -m benchmarks.copies --keep`.",
            "",
            f"| augmentation | test accuracy, {len(runs)} seeds | seconds |",
            "| --- | --- | --- |",
            *lines,
            "",
            f"On {_processor(about)}, with a load of {found['load']:.1f}; Keras "
            f"{versions['keras']}, TensorFlow {versions['tensorflow']}.",
            "",
        ]
    )


def growth() -> str:
    """Make the section on numbers of images, empty where nothing was measured."""
    path = RESULTS / "growth" / "growth.json"
    if not path.exists():
        return ""
    found = json.loads(path.read_text(encoding="utf-8"))
    lines = []
    for count, rounds in found["counts"].items():
        made, read, peak = (
            statistics.median(one[name] for one in rounds)
            for name in ("made_ms", "read_ms", "peak_mib")
        )
        lines.append(
            f"| {int(count):,} | {made:.2f} | {read:.2f} | {made + read:.2f} | "
            f"{peak:,.0f} |"
        )
    about, versions = found["machine"], found["versions"]
    return "\n".join(
        [
            "## growth",
            "",
            "Whether time and memory of one image depend on how many there are: "
            "features of a frozen EfficientNet-Lite0, 96 px, made into a cache on disk "
            "and read back in training order, ten epochs. Memory is what the process "
            "cannot give back. `python -m benchmarks.growth --keep`.",
            "",
            "| images | CPU ms an image, making | reading ten times | both | "
            "peak MiB |",
            "| --- | --- | --- | --- | --- |",
            *lines,
            "",
            f"Medians of {len(rounds)} rounds on {_processor(about)}, with a load of "
            f"{found['load']:.1f}; Keras "
            f"{versions['keras']}, TensorFlow {versions['tensorflow']}.",
            "",
        ]
    )


def ranking() -> str:
    """Make the section on ranking backbones, empty where nothing was measured."""
    path = RESULTS / "ranking" / "ranking.json"
    if not path.exists():
        return ""
    found = json.loads(path.read_text(encoding="utf-8"))
    trials, summary = found["trials"], found["summary"]
    targets = list(dict.fromkeys(one["target"] for one in trials))
    lines = []
    for score in dict.fromkeys(one["score"] for one in summary):
        of_score = {one["target"]: one for one in summary if one["score"] == score}
        tau = statistics.mean(one["tau"] for one in of_score.values())
        regret = [one["regret"] for one in of_score.values()]
        cells = [f"{of_score[t]['tau']:.2f}" if t in of_score else "" for t in targets]
        backbones = max(one["backbones"] for one in of_score.values())
        lines.append(
            f"| {score.replace('imagenet_accuracy', 'ImageNet accuracy')} | "
            f"{backbones} | {tau:.2f} | {' | '.join(cells)} | "
            f"{100 * statistics.mean(regret):.1f} ({100 * max(regret):.1f}) |"
        )
    accuracies = []
    for name in dict.fromkeys(one["name"] for one in trials):
        by_target = {o["target"]: o["accuracy"] for o in trials if o["name"] == name}
        cells = [f"{by_target[t]:.3f}" if t in by_target else "" for t in targets]
        accuracies.append(f"| {name} | {' | '.join(cells)} |")
    about, versions = found["machine"], found["versions"]
    return "\n".join(
        [
            "## ranking",
            "",
            "Whether scores of frozen features predict which backbone is best when "
            "fine-tuned: weighted tau between score and test accuracy (1 is the same "
            "order, 0 is none), and regret in points: by how much the backbone with "
            "the highest score stays below the best, the mean over targets and the "
            f"largest. At most {found['limits']['train']} training, "
            f"{found['limits']['validation']} validation and {found['limits']['test']} "
            f"test images of {found['size']} px; a head, then the last quarter of the "
            "blocks, one seed; two backbones are random. LEEP and NCE need the "
            "ImageNet classifier, which some files have not. "
            "`python -m benchmarks.ranking DATA WEIGHTS --keep`.",
            "",
            f"| score | backbones | mean tau | {' | '.join(targets)} | regret |",
            "| --- " * (len(targets) + 4) + "|",
            *lines,
            "",
            "Test accuracy after fine-tuning:",
            "",
            f"| backbone | {' | '.join(targets)} |",
            "| --- " * (len(targets) + 1) + "|",
            *accuracies,
            "",
            f"{found.get('date', '')}, {_processor(about)}, with a load of "
            f"{found['load']:.1f}; Keras {versions['keras']}, TensorFlow "
            f"{versions['tensorflow']}; seed {found['seed']}.",
            "",
        ]
    )


def accuracy() -> str:
    """Make the section on accuracy in a given time, empty without results."""
    path = RESULTS / "accuracy" / "accuracy.json"
    if not path.exists():
        return ""
    from keras_tl.analysis.evaluation import wilson_interval

    record = json.loads(path.read_text(encoding="utf-8"))
    rows = record["rows"]
    names = list(dict.fromkeys(row["name"] for row in rows))
    lines = []
    for key in dict.fromkeys((row["minutes"], row["target"]) for row in rows):
        cells, seconds = [], []
        for name in names:
            of_name = [
                row
                for row in rows
                if (row["minutes"], row["target"], row["name"]) == (*key, name)
            ]
            values = [row["accuracy"] for row in of_name]
            if not values:
                cells.append("")
                continue
            low, high = wilson_interval(
                round(statistics.mean(values) * of_name[0]["test"]), of_name[0]["test"]
            )
            text = f"{statistics.mean(values):.3f} ({low:.3f} to {high:.3f})"
            cells.append(text)
            seconds.append(f"{max(row['seconds'] for row in of_name):.0f}")
        lines.append(
            f"| {key[1]} | {key[0]:g} | {' | '.join(cells)} | {', '.join(seconds)} |"
        )
    versions = record["versions"]
    seeds = len({row["seed"] for row in rows})
    return "\n".join(
        [
            "## accuracy",
            "",
            "Test accuracy in a given time, with its 95 % Wilson interval over test "
            f"images ({seeds} seed{'s' if seeds > 1 else ''}): the same images in the "
            "same splits, the same backbone and weights, the same minutes; seconds are "
            "from the start of each process to its exit. The guide's code has no time "
            "of its own; it gets half of the minutes for the head and half for "
            "fine-tuning. "
            "`python -m benchmarks.accuracy DATA --keep`.",
            "",
            f"| images | minutes | {' | '.join(names)} | seconds |",
            "| --- " * (len(names) + 3) + "|",
            *lines,
            "",
            f"{record['date']}, {_processor(record['machine'])}, with a load of "
            f"{record['load']:.1f}; Keras {versions['keras']}, TensorFlow "
            f"{versions['tensorflow']}.",
            "",
        ]
    )


def write() -> None:
    """Write benchmarks/README.md."""
    files.write_text(FOLDER / "README.md", page())


def main() -> None:
    """Write the page, or with --check exit with 1 where it is out of date."""
    if "--check" not in sys.argv:
        write()
    elif (FOLDER / "README.md").read_text(encoding="utf-8") != page():
        sys.exit("benchmarks/README.md is out of date: python -m benchmarks.pages")


if __name__ == "__main__":
    main()
