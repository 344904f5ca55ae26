"""Tables and the figure of docs/beyond_one_machine.md, made of results/*.

A table stands between `<!-- benchmarks/RESULT: TABLE -->` and `<!-- /benchmarks -->`;
`python -m benchmarks.pages` fills them all.
"""

import dataclasses
import json
import re
from pathlib import Path

from benchmarks import pages, stragglers
from keras_tl import files

DOCS = Path(__file__).parents[1] / "docs"
PAGE, FIGURE = DOCS / "beyond_one_machine.md", DOCS / "images" / "stragglers.png"
MARKER = re.compile(
    r"(?P<start><!-- benchmarks/(?P<result>\w+): (?P<table>[a-zA-Z ]+) -->\n)"
    r".*?(?P<end><!-- /benchmarks -->)",
    re.DOTALL,
)


def assumptions(result: dict) -> str:
    """Make the table of what the arithmetic begins with."""
    from benchmarks.scaling import Assumptions

    fields = dataclasses.fields(Assumptions)
    rows = [
        [
            field.name.replace("_", " "),
            _plain(result["assumptions"][field.name]),
            field.metadata["unit"],
            field.metadata["source"],
        ]
        for field in fields
    ]
    for model in result["models"]:
        share = f"{model['share']:g}"
        rows.append([f"share, {model['name']}", share, "of the peak", model["source"]])
    return pages._table(["assumption", "value", "unit", "source"], rows)


def models(result: dict) -> str:
    """Make the table of what was counted, and what features take to keep."""
    images = result["assumptions"]["images"]
    rows = []
    for model in result["models"]:
        sizes = [
            _bytes(images * model[name] * width)
            for name in ("pooled", "map", "cut")
            for width in (4, 2)
        ]
        pooled = images * model["pooled"] * result["assumptions"]["feature_bytes"]
        price = pooled / 1e9 * result["assumptions"]["gigabyte_month"]
        rows.append(
            [
                model["name"],
                f"{model['parameters'] / 1e6:.1f} M",
                f"{model['flops'] / 1e9:.2f}",
                _share(model["block_parameters"] / model["parameters"]),
                *(" / ".join(sizes[at : at + 2]) for at in (0, 2, 4)),
                _price(price),
            ]
        )
    head = ["model", "parameters", "GFLOP forward", "parameters in the last block"]
    head += ["pooled, float32 / bfloat16", "feature map", "before the last block"]
    return pages._table([*head, "pooled, bfloat16, a month"], rows)


def epochs(result: dict) -> str:
    """Make the table of epochs, by model, task and number of GPUs."""
    rows = []
    for key, of in _by_model_and_task(result).items():
        fast = [row for row in of if not row["slow"] and row["gpus"] > 1]
        rows.append(
            [
                *key,
                _bytes(fast[0]["reduced"]) if fast[0]["reduced"] else "none",
                *(_epoch(row) for row in fast),
            ]
        )
    head = ["model", "an epoch of", "added in a step"]
    counts = [f"{gpus} GPUs" for gpus in _gpus(result) if gpus > 1]
    return pages._table([*head, *counts], rows)


def slow(result: dict) -> str:
    """Make the table of how long gradients are added, on two networks."""
    rows = []
    for key, of in _by_model_and_task(result).items():
        # On features the gradients are those of the last block on images.
        if key[1] not in ("head on features", "last block", "all of it"):
            continue
        by_gpus = {(row["gpus"], row["slow"]): row for row in of}
        many = [gpus for gpus in _gpus(result) if (gpus, True) in by_gpus]
        shares = [by_gpus[gpus, is_slow] for is_slow in (False, True) for gpus in many]
        times = [f"{1e3 * row['parts']['network']:.1f} ms" for row in shares]
        compute = f"{1e3 * of[0]['parts']['compute']:.1f} ms"
        rows.append([*key, compute, *times])
    head = ["model", "an epoch of", "computing"]
    for network in ("400 Gb/s a GPU", "100 Gb/s for 8 GPUs"):
        head += [f"{gpus} GPUs, {network}" for gpus in many]
    return pages._table(head, rows)


def one(result: dict) -> str:
    """Make the table of what one GPU does in an hour."""
    groups = _by_model_and_task(result)
    names = list(dict.fromkeys(model for model, _ in groups))
    rows = []
    for task in dict.fromkeys(task for _, task in groups):
        cells = []
        for name in names:
            row = next(row for row in groups[name, task] if row["gpus"] == 1)
            hour = _count(row["images_per_hour"])
            cells.append(f"{hour}; {row['waits_for']}; {_time(row['seconds'])}")
        rows.append([task, *cells])
    return pages._table(["an epoch of", *names], rows)


def summary(result: dict) -> str:
    """Make the sentences on what the tables come to."""
    given, groups = result["assumptions"], _by_model_and_task(result)

    def of(model, task, gpus, is_slow=False):
        rows = groups[model, task]
        return next(r for r in rows if (r["gpus"], r["slow"]) == (gpus, is_slow))

    floor = given["images"] * given["jpeg_bytes"] / given["store"]
    small, large = (of("ResNet50", "all of it", gpus) for gpus in (8, 512))
    far = of("ViT-B/16", "all of it", 512, is_slow=True)
    near = of("ViT-B/16", "all of it", 512)
    head = of("EfficientNetB0", "head on features", 1)
    features = of("EfficientNetB0", "features, once", 8)
    kept = of("VGG16", "last block on features", 64)
    again = of("VGG16", "last block", 64)
    batch = given["batch"] * 512
    return "\n".join(
        f"- {sentence}"
        for sentence in (
            f"The store ends it first: {_bytes(given['store'])}/s are "
            f"{given['store'] / given['jpeg_bytes']:,.0f} JPEGs a second, so that no "
            f"pass over a billion images takes less than {_time(floor)}, with any "
            "number of GPUs.",
            f"To keep 512 GPUs busy, a store would have to give {_demand(large)} for "
            f"all of ResNet50, and {_demand(near)} for all of ViT-B/16.",
            f"From 8 to 512 GPUs an epoch of all of ResNet50 becomes "
            f"{small['seconds'] / large['seconds']:.0f} times as fast, not 64, and "
            f"costs {_price(large['dollars'])} instead of {_price(small['dollars'])}.",
            f"A network of {_bytes(given['slow_network'])}/s a GPU makes a step of all "
            f"of ViT-B/16 on 512 GPUs {far['step'] / near['step']:.1f} times as long; "
            f"it then waits for the {far['waits_for']}.",
            f"Features of EfficientNetB0 take 8 GPUs {_time(features['seconds'])}, "
            f"once; an epoch of the head on them takes one GPU "
            f"{_time(head['seconds'])}.",
            "Large feature maps are slower to read than to compute again: an epoch of "
            f"the last block of VGG16 on 64 GPUs takes {_time(kept['seconds'])} from "
            f"kept maps, {_time(again['seconds'])} from the images.",
            f"512 GPUs with {given['batch']:.0f} images each are batches of "
            f"{batch:,.0f}. How accurate a model becomes with such batches is another "
            "question: ResNet50 on ImageNet lost accuracy above 8,192 (Goyal et al., "
            "2017, arXiv:1706.02677).",
        )
    )


def small(result: dict) -> str:
    """Make the sentences on what one machine does, of what was measured on this one."""
    measured = json.loads(
        (pages.RESULTS / "head_mobilenet_v2.json").read_text(encoding="utf-8")
    )
    rate = measured["cases"][measured["ours"]]["items_per_second"]["median"]
    few, many = (_time(20 * count / rate) for count in (50_000, 1_000_000))
    return (
        f"Measured, on {measured['machine']['cores']} cores: an epoch of the head on "
        f"features of MobileNetV2 passes over {rate:,.0f} images a second, so that 20 "
        f"epochs take {few} for 50,000 images and {many} for a million."
    )


def steps(result: dict) -> str:
    """Make the table of steps that wait for the slowest."""
    of = result["simulated"]["steps"]
    rows = []
    for name in dict.fromkeys(row["times"] for row in of):
        cells = []
        for row in of:
            if row["times"] == name:
                exact = row["closed_form"]
                known = "" if exact is None else f" (exactly {exact:.2f})"
                cells.append(f"{row['step']:.2f}{known}")
        rows.append([name, *cells])
    counts = [f"{gpus} GPUs" for gpus in stragglers.GPUS]
    return pages._table(["time of a step on a GPU", *counts], rows)


def reads(result: dict) -> str:
    """Make the table of the share of time that GPUs compute, by batches read ahead."""
    of = result["simulated"]["reads"]
    rows = []
    for name in dict.fromkeys(row["times"] for row in of):
        for gpus in stragglers.GPUS:
            same = [r for r in of if (r["times"], r["gpus"]) == (name, gpus)]
            rows.append([name, f"{gpus}", *(_share(1 / row["step"]) for row in same)])
    return pages._table(
        ["reading", "GPUs", *(f"{depth} ahead" for depth in stragglers.DEPTHS)], rows
    )


def about(result: dict) -> str:
    """Make the sentence on when and where it was computed."""
    return f"{result['date']}; {pages._machine(result)}."


# Table -> what makes it of the result of `benchmarks.scaling`.
TABLES = {
    "assumptions": assumptions,
    "models": models,
    "epochs": epochs,
    "slow network": slow,
    "small": small,
    "one GPU": one,
    "summary": summary,
    "steps": steps,
    "reads": reads,
    "about": about,
}
# Result -> its tables.
RESULTS = {
    "scaling": TABLES,
    "equality": {"weights": pages.equality_table},
    "worker_scaling": {"speed": pages.worker_scaling_table},
}


def filled(text: str) -> str:
    """Fill the tables between the markers of a page.

    Raises:
        KeyError: A marker names a result or a table that does not exist.
    """

    def fill(match):
        make = RESULTS[match["result"]][match["table"]]
        path = pages.RESULTS / match["result"] / f"{match['result']}.json"
        made = make(json.loads(path.read_text(encoding="utf-8")))
        return f"{match['start']}{made}\n{match['end']}"

    return MARKER.sub(fill, text)


def write() -> None:
    """Fill the page."""
    files.write_text(PAGE, filled(PAGE.read_text(encoding="utf-8")))


def draw(result: dict) -> None:
    """Draw the simulation: what stragglers cost, and what reading ahead helps."""
    from matplotlib.figure import Figure

    from keras_tl.analysis import figures

    figure = Figure((9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    styles = figures.STYLES
    simulated = result["simulated"]
    names = [name for name in stragglers.STEPS if name != "exponential"]
    for name, (colour, marker, line) in zip(names, styles, strict=False):
        of = [row for row in simulated["steps"] if row["times"] == name]
        x = [row["gpus"] for row in of]
        y = [row["step"] for row in of]
        left.plot(x, y, color=colour, marker=marker, linestyle=line, label=name)
    left.set(
        title="Every step waits for the slowest",
        xlabel="GPUs",
        ylabel="mean step, of one GPU's",
        xscale="log",
        xticks=stragglers.GPUS,
        xticklabels=stragglers.GPUS,
        ylim=(0.9, 2.5),
    )
    left.minorticks_off()
    left.legend(frameon=False, fontsize=8, title="time of a step", title_fontsize=8)
    curves = [
        (name, gpus)
        for name in ("uneven", "uneven, 1 of 100 takes 10 times as long")
        for gpus in (8, 512)
    ]
    curves.append(("too slow", 512))
    for (name, gpus), (colour, marker, line) in zip(curves, styles, strict=False):
        of = [r for r in simulated["reads"] if (r["times"], r["gpus"]) == (name, gpus)]
        label = name.replace("takes 10 times as long", "10 times as long")
        right.plot(
            range(len(of)),
            [100 / row["step"] for row in of],
            color=colour,
            marker=marker,
            linestyle=line,
            label=f"{label}, {gpus} GPUs",
        )
    right.set(
        title="Reading ahead helps, up to what is read",
        xlabel="batches that each GPU reads ahead",
        ylabel="time in which GPUs compute, %",
        xticks=range(len(stragglers.DEPTHS)),
        xticklabels=stragglers.DEPTHS,
        ylim=(0, 105),
    )
    figure.legend(
        *right.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=8,
        title="reading, on the right",
        title_fontsize=8,
    )
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=figures.LINE)
    figures.save(figure, FIGURE)


def _gpus(result):
    return list(dict.fromkeys(row["gpus"] for row in result["rows"]))


def _by_model_and_task(result):
    groups = {}
    for row in result["rows"]:
        groups.setdefault((row["model"], row["task"]), []).append(row)
    return groups


def _epoch(row):
    return (
        f"{_time(row['seconds'])}, {_price(row['dollars'])}; {row['waits_for']} "
        f"({_share(row['efficiency'])}); {_bytes(row['read_per_second'])}/s"
    )


def _time(seconds):
    """Return a time in the unit in which it is said."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.0f} s"


def _bytes(count):
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def _demand(row):
    """Return how fast images would be read if a step waited for nothing else."""
    busy = row["parts"]["compute"] + row["parts"]["network"]
    return f"{_bytes(row['read_per_second'] * row['step'] / busy)}/s"


def _share(share):
    return f"{100 * share:.0f} %" if share >= 0.01 else "below 1 %"


def _price(dollars):
    return f"${dollars:,.0f}" if dollars >= 10 else f"${dollars:.2f}"


def _count(number):
    for unit, size in (("billion", 1e9), ("million", 1e6)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number:,.0f}"


def _plain(value):
    """Return a number as a person writes it."""
    return f"{value:,.0f}" if 100 <= value < 1e6 else f"{value:g}"
