"""Collect what runs measured, and fill README, docs and recipes from it.

    python results/update.py add RUN...   copy the results of finished runs to here
    python results/update.py              fill the tables and the docstrings
    python results/update.py --check      exit 1 where they do not agree

Each run gives one file, `results/<recipe>/<variant>-seed<seed>.json`: date, machine,
versions, seed, config, metrics with intervals, seconds. Runs that differ in nothing but
their seed are one row. No number is typed by hand.
"""

import argparse
import ast
import functools
import json
import re
import sys
import textwrap
from collections import defaultdict
from pathlib import Path

import keras_tl.quiet  # noqa: F401  Before Keras.

import numpy as np

from keras_tl import files
from keras_tl.analysis import study
from keras_tl.analysis.evaluation import seed_summary
from keras_tl.config import current

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
# Settings that say where a run was kept, not what it did.
PLACES = ("seed", "out", "resume", "cache")
# Most results in the docstring of a recipe.
MOST_EXPECTED = 5
# Facts about a recipe that it writes into the manifest of a run.
FACTS = ("title", "model_name", "network", "base", "compared", "value")


def add(runs: list[Path], suffix: str | None = None) -> None:
    """Copy the results of finished runs into this folder.

    Args:
        runs: Folders of the runs.
        suffix: What sets the file's name apart, where a run stands beside another that
            differs in other settings than those of `variant`.
    """
    for run in runs:
        manifest = files.read_json(run / "manifest.json")
        config = config_of(files.read_json(run / "config.json"))
        del config["out"]
        for name, value in config.items():
            # A path on somebody's machine says nothing to others; the file's name does.
            if isinstance(value, str) and "/" in value:
                config[name] = Path(value).name
        record = {
            "recipe": manifest["recipe"],
            "date": manifest["date"],
            "seed": manifest["seed"],
            "seconds": manifest["seconds"],
            "seconds_of_parts": manifest.get("seconds_of_parts"),
            # What was found in the cache took no time.
            "features": manifest.get("features"),
            "machine": manifest["machine"],
            "versions": manifest["versions"],
            "config": config,
            "data": manifest["data"],
        }
        record |= {name: manifest[name] for name in FACTS if name in manifest}
        if "trials" in manifest:
            # A study; what a killed one had done before is in its trials.
            for name in ("by", "over", "trials"):
                record[name] = manifest[name]
            # One that is measured in several ways has several rows.
            trials = enumerate(manifest["trials"])
            seconds = {row.get("trial", n): row["seconds"] for n, row in trials}
            record["seconds"] = round(sum(seconds.values()), 1)
        else:
            record["metrics"] = files.read_json(run / "metrics.json")
        folder = RESULTS / record["recipe"]
        folder.mkdir(exist_ok=True)
        apart = f"-{suffix}" if suffix else ""
        name = f"{variant(record)}{apart}-seed{record['seed']}.json"
        files.write_json(folder / name, record)
        print(folder / name)


def config_of(saved: dict) -> dict:
    """Return the settings of a run under the names they have now."""
    return current(saved)


def variant(record: dict) -> str:
    """Name what sets a run apart from others of its recipe, for its file's name."""
    config, parts = config_of(record["config"]), []
    for name in (
        *("backbone", "dataset", "data", "weights", "image_size"),
        *("images", "labels", "method", "blocks", "limit", "precision", "augment"),
    ):
        value = config.get(name)
        if name in ("labels", "method"):
            # A study has several; the usual one needs no name.
            usual = defaults(record.get("recipe")).get(name)
            if isinstance(value, list | tuple) or value == usual:
                continue
            value = "all" if value is None else value
        if value not in (None, False, "none", "imagenet", "float32"):
            text = name if value is True else str(value)
            parts.append(re.sub(r"[^a-zA-Z0-9]+", "_", text))
    if config.get("penalty_scale", 1.0) != 1.0:
        parts.append(f"penalty_{config['penalty_scale']:g}".replace(".", "_"))
    return "-".join(parts)


@functools.cache
def defaults(recipe: str | None) -> dict[str, object]:
    """Return the settings of a recipe whose values stand in its source."""
    path = ROOT / "recipes" / f"{recipe}.py"
    if not path.exists():
        return {}
    body = ast.parse(path.read_text()).body
    (config,) = (node for node in body if getattr(node, "name", None) == "Config")
    return {
        node.target.id: node.value.value
        for node in config.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant)
    }


def load() -> dict[str, list[list[dict]]]:
    """Read all results: recipe -> groups of runs that differ in their seed alone."""
    groups = defaultdict(lambda: defaultdict(list))
    for path in sorted(RESULTS.glob("*/*.json")):
        record = json.loads(path.read_text())
        config = {k: v for k, v in record["config"].items() if k not in PLACES}
        groups[record["recipe"]][json.dumps(config, sort_keys=True)].append(record)
    return {recipe: list(found.values()) for recipe, found in groups.items()}


def rows(records: list[dict]) -> list[tuple[str, str]]:
    """Return name of the model or setting and accuracy, of a group of runs."""
    if "trials" in records[0]:
        return [row for record in records for row in highlights(record)]
    baseline = records[0]["metrics"]["majority_baseline"]
    names = dict.fromkeys(n for record in records for n in record["metrics"]["models"])
    return [
        ("majority class", f"{baseline:.3f}"),
        *((name, accuracy(records, name)) for name in names),
    ]


def highlights(record: dict) -> list[tuple[str, str]]:
    """Select the results of a study for the tables."""
    if "compared" not in record:
        return freeze_points(record["trials"])
    return methods(record)


def methods(record: dict) -> list[tuple[str, str]]:
    """Return each method of a study, at the settings that validation selected."""
    by, over, compared = record["by"], record["over"], record["compared"]
    chosen = study.choose(record["trials"], by, over)
    of = next((f"{n}s" for n in ("fold", "pair") if n in record["trials"][0]), "seeds")
    settings = [name for name in by if name != compared]
    lines = []
    for row in study.summarize(chosen, [*by, *over], measurement(record)):
        names = [*(setting(name, row[name]) for name in settings), row[compared]]
        values = ", ".join(f"{name} {row[name]}" for name in over)
        name = ", ".join(names) + (f" ({values})" if values else "")
        digits = 0 if row["seconds"] >= 10 else 1
        text = f"{over_seeds(row, of)}, {row['seconds']:.{digits}f} s each"
        if "megabytes" in chosen[0]:  # What was exported: size and speed.
            text = f"{over_seeds(row, of)}{exported(chosen, compared, row[compared])}"
        lines.append((name, text))
    return lines


def measurement(record: dict) -> str:
    """Return the name of the measurement that a study reports."""
    return record.get("value", "accuracy")


def exported(trials: list[dict], compared: str, name: str) -> str:
    """Return interval, size, latency and memory of one method's exports, the means."""
    of_name = [trial for trial in trials if trial[compared] == name]
    measured = ("megabytes", "zipped_megabytes", "milliseconds", "peak_mib")
    size, zipped, time, memory = (
        np.mean([trial[key] for trial in of_name]) for key in measured
    )
    half = np.mean([np.diff(trial["interval"]) / 2 for trial in of_name])
    return (
        f" ± {half:.3f}, {size:.2f} MB ({zipped:.2f} zipped), {time:.2f} ms, "
        f"{memory:.0f} MiB"
    )


def setting(name: str, value: str | int) -> str:
    """Return the value of a setting, with its name where it is a number."""
    return value if isinstance(value, str) else f"{value:,} {name}"


def freeze_points(trials: list[dict]) -> list[tuple[str, str]]:
    """Return for each number of images the ends, and what validation chose."""
    lines = []
    for images in sorted({trial["images"] for trial in trials}):
        of_size = [trial for trial in trials if trial["images"] == images]
        best = study.choose(of_size, ["images"], ["blocks"])[0]["blocks"]
        summaries = study.summarize(of_size, ["blocks"])
        last = max(row["blocks"] for row in summaries)
        for row in summaries:
            blocks, names = row["blocks"], []
            names += ["the head alone"] if not blocks else []
            names += ["everything"] if blocks == last else []
            names += [f"the last {blocks} blocks"] if 0 < blocks < last else []
            names += ["chosen by validation"] if blocks == best else []
            if blocks in (0, best, last):
                name = f"{images:,} images: {', '.join(names)}"
                lines.append((name, over_seeds(row)))
    return lines


def over_seeds(row: dict, of: str = "seeds") -> str:
    """Format a row of `study.summarize`: mean, and range over its seeds or folds."""
    text = f"{row['mean']:.3f}"
    if row["seeds"] == 1:
        return text
    return f"{text} ({row['low']:.3f} to {row['high']:.3f}, {row['seeds']} {of})"


def accuracy(records: list[dict], model: str) -> str:
    """Format a test accuracy: mean, half its 95 % interval, range over seeds."""
    results = []
    for record in records:
        *_, own = models = record["metrics"]["models"]
        # Where validation kept no epoch of a phase, the model is that before it.
        results.append(models[model if model in models else own])
    intervals = [result["accuracy_interval"] for result in results]
    half = np.mean([(high - low) / 2 for low, high in intervals])
    summary = seed_summary([result["accuracy"] for result in results])
    text = f"{summary['mean']:.3f} ± {half:.3f}"
    if len(results) == 1:
        return text
    return (
        f"{text} ({summary['min']:.3f} to {summary['max']:.3f}, {len(results)} seeds)"
    )


def facts(records: list[dict]) -> dict[str, str]:
    """Return date, machine, time and sizes of a group of runs, for people."""
    first = records[0]
    counts = first["data"]["counts"]
    config = first["config"]
    name = config.get("data") or config.get("dataset") or config.get("source")
    if name is None:  # Images without classes are no data set: they say what they are.
        own = first["data"]["origin"].rstrip(".")
        name = "cifar10_sample" if first["data"]["classes"] else own
    images = f"{name}, {counts['train']:,} train, {counts['test']:,} test"
    if "different" in config:  # A study of several datasets.
        images = f"{config['similar']} and {config['different']}"
    # What a first run costs, one that found features of earlier runs does not say.
    first_runs = [r for r in records if not (r.get("features") or {}).get("found")]
    by_time = sorted(first_runs or records, key=lambda record: record["seconds"])
    median = by_time[len(by_time) // 2]
    time = f"{median['seconds']:.0f} s"
    parts = median.get("seconds_of_parts") or {}
    durations = [f"{name} {seconds:.0f} s" for name, seconds in parts.items()]
    if not first_runs:
        features = median["features"]
        share = features["found"] / (features["found"] + features["made"])
        durations.append(f"{100 * share:.0f} % of the features from the cache")
    if durations:
        time += f" ({', '.join(durations)})"
    machine = first["machine"]
    processor, cores = machine["processor"], machine["cores"]
    if machine.get("instructions"):
        processor += f" with {machine['instructions']}"
    return {
        "date": max(record["date"] for record in records)[:10],
        "machine": f"{cores} core{'s' * (cores != 1)}, {processor}",
        "seconds": time,
        "images": images,
        "keras": f"Keras {first['versions']['keras']}",
        "tensorflow": f"TensorFlow {first['versions']['tensorflow']}",
        "settings": settings(first),
    }


def settings(record: dict) -> str:
    """Name backbone, weights and image size of a run."""
    config = config_of(record["config"])
    weights = config.get("weights")
    names = [config.get("backbone") or record.get("network") or record["model_name"]]
    names += [weights] if weights not in (None, "imagenet") else []
    if "image_size" in config:
        names.append(f"{config['image_size']} px")
    if config.get("precision", "float32") != "float32":
        names.append(config["precision"])
    if config.get("penalty_scale", 1.0) != 1.0:
        names.append(f"penalties scaled by {config['penalty_scale']:g}")
    if config.get("augment", "none") != "none":
        copies = config.get("augmented_copies")
        names.append(f"augmented, {copies} copies" if copies else "augmented")
    return ", ".join(names)


def table(results: dict[str, list[list[dict]]]) -> str:
    """Make the tables of results: a heading for each recipe, a table for each group."""
    lines = []
    for recipe, groups in sorted(results.items()):
        lines += [f"### {recipe}", "", tables(groups)]
    return "\n".join(lines).rstrip("\n")


def tables(groups: list[list[dict]]) -> str:
    """Make a table for each group of runs of a recipe, the leading one first."""
    first = leading(groups)
    lines = []
    for records in [first, *(group for group in groups if group is not first)]:
        about, measured = facts(records), measurement(records[0])
        heading = "test accuracy" if measured == "accuracy" else measured
        lines += [
            f"{about['settings']}; {about['images']}; {about['seconds']} on "
            f"{about['machine']}; {about['keras']}, {about['tensorflow']}; "
            f"{about['date']}:",
            *("", f"| model | {heading} |", "| --- | --- |"),
            *(f"| {model} | {value} |" for model, value in rows(records)),
            "",
        ]
    return "\n".join(lines)


def curves(groups: list[list[dict]]) -> str:
    """Make a table of every freeze point for each group of runs of layer_freezing."""
    lines = [] if groups else ["Not measured yet."]
    for (record,) in groups:
        about = facts([record])
        rows_of_study = study.summarize(
            record["trials"], ["blocks", "trainable", "images"]
        )
        sizes = sorted({row["images"] for row in rows_of_study})
        lines += [
            f"{about['images']}; {about['settings']}; {about['seconds']} on "
            f"{about['machine']}, {about['keras']}, {about['date']}:",
            "",
            "| blocks that train | parameters that train | "
            + " | ".join(f"{size:,} images | s" for size in sizes)
            + " |",
            "| --- | --- |" + " --- | --- |" * len(sizes),
        ]
        for blocks, trainable in dict.fromkeys(
            (row["blocks"], row["trainable"]) for row in rows_of_study
        ):
            cells = [
                f"{row['mean']:.3f} ({row['low']:.3f} to {row['high']:.3f}) | "
                f"{row['seconds']:.0f}"
                for row in rows_of_study
                if row["blocks"] == blocks
            ]
            name = blocks or "0, the head alone"
            lines.append(f"| {name} | {trainable:,} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def gains(groups: list[list[dict]]) -> str:
    """Make a table of what each method of a study gains over its base, seed by seed."""
    lines = [] if groups else ["Not measured yet."]
    for (record,) in groups:
        about, base, compared = facts([record]), record["base"], record["compared"]
        if base is None:
            # A run of one method, to stand beside those of another run.
            continue
        by = [name for name in record["by"] if name != compared]
        measured = measurement(record)
        difference = "gain" if measured == "accuracy" else f"difference of {measured}"
        chosen = study.choose(record["trials"], record["by"], record["over"])
        lines += [
            "",
            f"{about['images']}; {about['settings']}; beside {base}:",
            "",
            f"| {' | '.join([*by, 'method'])} | {difference} | 95 % interval |",
            f"|{' --- |' * (len(by) + 3)}",
        ]
        for row in study.gains(chosen, by, compared, base, measurement(record)):
            if row["low"] is not None:
                set_to = " | ".join(str(row[name]) for name in [*by, compared])
                interval = f"{row['low']:+.3f} to {row['high']:+.3f}"
                lines.append(f"| {set_to} | {row['gain']:+.3f} | {interval} |")
    return "\n".join(lines).strip("\n") + "\n"


def regrets(groups: list[list[dict]]) -> str:
    """Make a table of what was decided beforehand, beside trying everything."""
    lines = [] if groups else ["Not measured yet."]
    for (record,) in groups:
        about, (by, _) = facts([record]), record["by"]
        lines += [
            "",
            f"{about['images']}; {about['settings']}:",
            "",
            f"| {by} | {record['base']} | tried, selected by validation | its accuracy "
            "| regret, points | best of all on test | cost |",
            f"|{' --- |' * 7}",
        ]
        table = study.regrets(record["trials"], by, record["compared"], record["base"])
        for row in table:
            cells = [row[by], f"{row['accuracy']:.3f}", row["tried"]]
            cells += [f"{row['of_tried']:.3f}", f"{100 * row['regret']:+.1f}"]
            cells += [f"{row['best']:.3f}", f"{100 * row['cost']:.0f} %"]
            lines.append(f"| {' | '.join(cells)} |")
        mean = np.mean([row["regret"] for row in table])
        cost = np.mean([row["cost"] for row in table])
        cells = ["mean", "", "", "", f"{100 * mean:+.1f}", "", f"{100 * cost:.0f} %"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines).strip("\n") + "\n"


def maps(groups: list[list[dict]]) -> str:
    """Make a table of heat maps: what deleting what they name costs an answer."""
    columns = ("images", "map", "fall of the probability", "more than the last")
    lines = [f"| {' | '.join([*columns, '95 % interval'])} |", f"|{' --- |' * 5}"]
    for record in [one for group in groups for one in group]:
        about = facts([record])
        for row in record["metrics"]["maps"]:
            images = f"{about['images'].split(',')[0]}, seed {record['seed']}"
            cells = [images, row["map"], f"{row['fall']:.3f}"]
            cells += [f"{row['more']:+.3f}", f"{row['low']:+.3f} to {row['high']:+.3f}"]
            if row is record["metrics"]["maps"][-1]:
                cells[3:] = ["", ""]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def unseen(groups: list[list[dict]]) -> str:
    """Make a table of zero-shot: two unseen classes told apart, and among all."""
    columns = ("method", "of two unseen", "95 % interval", "pairs above chance")
    columns += ("pairs below", "harmonic mean of all", "stacked", "seen", "unseen")
    stacked = ("harmonic", "seen", "unseen")
    lines = [] if groups else ["Not measured yet."]
    for record in [one for group in groups for one in group]:
        about = facts([record])
        lines += ["", f"{about['images']}; {about['settings']}:", ""]
        lines += [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
        for row in study.over_pairs(record["trials"], record["compared"], chance=0.5):
            cells = [row[record["compared"]], f"{row['mean']:.3f}"]
            cells += [f"{row['low']:.3f} to {row['high']:.3f}"]
            cells += [f"{row['above']} of {row['pairs']}", str(row["below"])]
            for name in ("harmonic", *(f"stacked_{one}" for one in stacked)):
                cells.append(f"{row[name]:.3f}" if name in row else "")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines).strip("\n") + "\n"


def judged_twice(groups: list[list[dict]]) -> str:
    """Make a table of models judged on a handful of examples, and on thousands."""
    columns = ("seed", "model", "right", "95 % interval")
    columns += ("accuracy on the others", "95 % interval")
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for record in [one for group in groups for one in group]:
        for name, few in record["metrics"]["few"].items():
            result = record["metrics"]["models"][name]
            low, high = few["interval"]
            cells = [str(record["seed"]), name, f"{few['right']} of {few['count']}"]
            cells += [f"{low:.3f} to {high:.3f}", f"{result['accuracy']:.3f}"]
            cells += ["{:.3f} to {:.3f}".format(*result["accuracy_interval"])]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def recipes(results: dict[str, list[list[dict]]]) -> str:
    """Make the README's list of recipes: the first line of each, and its headline."""
    lines = ["| recipe | what it does | test accuracy | minutes |"]
    lines.append("| --- | --- | --- | --- |")
    for path in sorted((ROOT / "recipes").glob("[!_]*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        name = f"[`{path.stem}`](notebooks/{path.stem}.ipynb)"
        cells = [name, docstring.splitlines()[0]]
        cells += headline(results.get(path.stem, []))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def leading(groups: list[list[dict]]) -> list[dict]:
    """Return the group of most seeds, then of the fewest settings, then the first."""

    def rank(group):
        return len(group), -variant(group[0]).count("-")

    return max(groups, key=rank)


def headline(groups: list[list[dict]]) -> tuple[str, str]:
    """Return the accuracy of what a recipe ends with, and its minutes.

    A study has no single number.
    """
    if not groups:
        return "not measured", ""
    chosen = leading(groups)
    seconds = sorted(record["seconds"] for record in chosen)[len(chosen) // 2]
    minutes = f"{max(1, round(seconds / 60))}"
    if "trials" in chosen[0]:
        return "[a study](docs/studies.md)", minutes
    name, value = rows(chosen)[-1]
    return f"{value.split(' (')[0]}, {name}", minutes


def expected(groups: list[list[dict]]) -> str:
    """Make the lines behind "Expected:" in a recipe's docstring, those of one group."""
    records = leading(groups)
    about = facts(records)
    values = [f"  {name} {value}" for name, value in rows(records)]
    values = [line for line in values if not line.startswith("  majority class")]
    lines = [
        f"{about['settings']}, {about['images']}:",
        *values[:MOST_EXPECTED],
        f"  {about['seconds']} on {about['machine']}",
        f"  {about['keras']}, {about['tensorflow']}, {about['date']}",
    ]
    if len(values) > MOST_EXPECTED or len(groups) > 1:
        lines.append("more in docs/results.md")
    wrap = functools.partial(
        textwrap.wrap, width=88, initial_indent=" " * 4, subsequent_indent=" " * 8
    )
    return "\n".join(part for line in lines for part in wrap(line))


def between(text: str, start: str, end: str, new: str) -> str:
    """Replace what stands between two markers, which stay."""
    head, found, rest = text.partition(start)
    _, ended, tail = rest.partition(end)
    if not found or not ended:
        raise SystemExit(f"The markers {start!r} and {end!r} are missing.")
    return head + start + new + end + tail


# Kind of a table -> function from results to its text.
TABLES = {
    "recipes": lambda results: recipes(results) + "\n",
    "results": lambda results: table(results) + "\n",
    "gains": lambda results: gains([g for groups in results.values() for g in groups]),
    "regrets": lambda results: regrets(
        [g for groups in results.values() for g in groups]
    ),
    "unseen": lambda results: unseen(
        [g for groups in results.values() for g in groups]
    ),
    "judged twice": lambda results: judged_twice(
        [g for groups in results.values() for g in groups]
    ),
    "maps": lambda results: maps([g for groups in results.values() for g in groups]),
    "freeze points": lambda results: curves(
        [g for groups in results.values() for g in groups]
    ),
}
# `<!-- KIND: RECIPE, ... -->`, what is filled in, `<!-- /KIND -->`; without names, all.
MARKER = re.compile(
    r"(?P<start><!-- (?P<kind>[a-z ]+?)(?:: (?P<names>[a-z0-9_, ]+))? -->\n)"
    r".*?(?P<end>\n?<!-- /(?P=kind) -->)",
    re.DOTALL,
)


def filled(text: str, results: dict[str, list[list[dict]]]) -> str:
    """Fill the tables between the markers of a page.

    Raises:
        SystemExit: A marker of an unknown kind or recipe.
    """
    known = {path.stem for path in (ROOT / "recipes").glob("[!_]*.py")} | set(results)

    def fill(match):
        kind, names = match["kind"], match["names"]
        if kind not in TABLES:
            raise SystemExit(f"The marker {kind!r} is none of: {', '.join(TABLES)}.")
        chosen = names.split(", ") if names else list(results)
        for name in chosen:
            if name not in known:
                raise SystemExit(f"The marker {kind!r} names no recipe: {name!r}.")
        new = TABLES[kind]({name: results.get(name, []) for name in chosen})
        end = f"<!-- /{kind} -->"
        return match["start"] + new + end

    return MARKER.sub(fill, text)


def wanted() -> dict[Path, str]:
    """Return every file that shows results, with the text it should have."""
    results = load()
    texts = {
        path: filled(path.read_text(), results)
        for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    }
    for path in sorted((ROOT / "recipes").glob("[!_]*.py")):
        groups = results.get(path.stem)
        lines = "\n" + expected(groups) if groups else " not measured"
        texts[path] = between(path.read_text(), "\nExpected:", "\nRun:", lines)
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    commands = parser.add_subparsers(dest="command")
    adding = commands.add_parser("add", help="copy the results of finished runs")
    adding.add_argument("runs", nargs="+", type=Path)
    adding.add_argument("--suffix", help="set the name of the file apart by this")
    arguments = parser.parse_args()
    if arguments.command == "add":
        add(arguments.runs, arguments.suffix)
    stale = [path for path, text in wanted().items() if path.read_text() != text]
    if not arguments.check:
        for path, text in wanted().items():
            if path in stale:
                files.write_text(path, text)
    elif stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        sys.exit(f"Not what the results say: {names}. Run: python results/update.py")


if __name__ == "__main__":
    main()
