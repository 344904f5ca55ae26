"""Execute the notebooks and store them with their figures, or check the stored ones.

    python notebooks/build.py                     those whose source has changed
    python notebooks/build.py NAME...             these
    python notebooks/build.py --check             exit 1 where a stored one is stale
    python notebooks/build.py NAME... --only-run  store nothing, exit 1 where one fails

Each `NAME.ipynb` goes with the recipe NAME, or is a guide over several commands. Its
source is `NAME.py`, in jupytext's percent format, or else `template.txt`, filled for
the recipe.
"""

import argparse
import ast
import base64
import io
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
import numpy as np
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

from keras_tl import cli
from keras_tl.data import datasets

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"
MOST_BYTES = 1_000_000
# Larger figures are stored with a palette.
MOST_OF_FIGURE = 200_000
# What the notebooks that are made from the template differ in, besides the recipe.
TEMPLATE = {
    "DATA": "data = recipe.build_data(settings)",
    "MODEL": "recipe.build_model(settings, len(data.class_names))",
}
SHORT = {
    "cnn_cifar10": {
        "SETTINGS": 'dataset="cifar10_sample", limit=1000, epochs=10',
        "NEXT": "`quickstart` trains the same network beside a pretrained one. What do "
        "twice as many images add, or twice as many epochs?",
    },
    "compress_and_export": {
        "SETTINGS": "limit=300, image_size=96, epochs=10, fine_tune_epochs=2, "
        "prune_steps=2, prune_epochs=1, student_epochs=4, calls=30",
        "NEXT": "How much can be zero before it costs: `sparsity=0.8`. Is a student of "
        "fewer blocks, `student_blocks=5`, worth its size? Your own images: "
        '`data="my_photos"`.',
    },
    "cross_validation": {
        "SETTINGS": "limit=500, folds=5, leave_one_out=50",
        "DATA": "data, pool, test = recipe.build_data(settings)",
        "NEXT": "`fine_tune=True` fine-tunes in every fold, which takes minutes. How "
        'far apart are the folds of your own images, `data="my_photos"`?',
    },
    "distillation": {
        "SETTINGS": "limit=300, image_size=96, teacher_epochs=3, epochs=8, seeds=2",
        "NEXT": "A higher `temperature` gives softer answers, and `label_weight=0` "
        "leaves out the labels. Is the gain larger than the spread over the seeds?",
    },
    "domain_adaptation_digits": {
        "SETTINGS": 'data="mnist_usps", limit=1000, tasks=("MNIST to USPS",), '
        'methods=("Deep CORAL", "MCC"), epochs=5, seeds=1',
        "DATA": 'domains = recipe.build_data(settings)\ndata = domains["MNIST-M"]',
        "MODEL": "recipe.build_model(settings)",
        "NEXT": "All methods, more epochs, other weights: "
        "`term_weights=(0.3, 1.0, 3.0)`. Does the highest `validation` belong to the "
        "highest accuracy?",
    },
    "domain_adaptation_pacs": {
        "SETTINGS": 'data="pacs", limit=150, image_size=96, epochs=8, seeds=1, '
        'methods=("Deep CORAL", "MCC"), term_weights=(1.0,)',
        "DATA": 'domains = recipe.build_data(settings)\ndata = domains["photo"]',
        "NEXT": "Two folders of your own in place of PACS: "
        '`source="my_photos", target="my_sketches"`. Which pairs gain, and which lose?',
    },
    "explain_predictions": {
        "SETTINGS": "limit=400, image_size=96, explained=24, shown=4, steps=8",
        "NEXT": 'Your own images: `data="my_photos"`. Do the mistakes look at the '
        "thing itself, or at what stands around it?",
    },
    "feature_extraction": {
        "SETTINGS": "limit=600, image_size=96",
        "MODEL": "recipe.build_model(settings)[0]",
        "NEXT": 'Other images: `dataset="digits"`. Is the best layer nearer to the '
        "input when images are less like photographs?",
    },
    "four_quadrants": {
        "SETTINGS": 'few=3, many=9, steps=8, limit=300, augmentations=("none",), '
        "image_size=96",
        "DATA": "both = recipe.build_data(settings)\ndata = both[settings.different]",
        "NEXT": "Your own images as `different`, with more `steps`. In which quadrant "
        "is the choice worth most?",
    },
    "gradual_unfreezing": {
        "SETTINGS": "images=200, limit=400, rates=(1e-3,), seeds=1",
        "NEXT": "One seed decides nothing: `seeds=5`. With `rates=(3e-4, 1e-3, 3e-3)` "
        "each method gets the rate that suits it.",
    },
    "hyperparameter_search": {
        "SETTINGS": "limit=400, trials=5, epochs=4",
        "MODEL": "recipe.build_model(settings, len(data.class_names), recipe.DEFAULTS)",
        "NEXT": "More `trials`. Why is the best accuracy on validation higher than the "
        "one on the test images?",
    },
    "multi_task": {
        "SETTINGS": 'data="pacs", limit=150, epochs=5, seeds=1',
        "DATA": "data, domains = recipe.build_data(settings)",
        "NEXT": "With `domain_weight=0.1` the second task matters less. Does the first "
        "gain?",
    },
    "spoken_digits": {
        "SETTINGS": 'data="spoken_digits", weights="openwakeword", clips=(1, 10), '
        "pairs=1, steps=100, epochs=20",
        "DATA": "data, clips, speakers = recipe.build_data(settings)",
        "MODEL": 'recipe.build_model(settings, len(data.class_names), "fine-tuned")',
        "NEXT": "More clips of each digit, `clips=(160,)`: does the small CNN catch "
        'up? How many are enough for Whisper, `backbone="whisper"` with its folder as '
        "`weights`? Your own recordings are named "
        "`LABEL_SPEAKER_NUMBER.wav`.",
    },
    "sentiment_from_72_sentences": {
        "SETTINGS": 'data="SST-2", weights="all-MiniLM-L6-v2", limit=1000',
        "DATA": "import warnings\n\n"
        "# Some phrases of SST-2 stand under both labels, of which keras-tl warns.\n"
        'warnings.filterwarnings("ignore", message="Equal, with different")\n'
        "data, unlabelled = recipe.build_data(settings)",
        "MODEL": "recipe.build_model(\n"
        "    settings, [*recipe.backbones(settings, data, unlabelled)][-1][1], 2\n)",
        "NEXT": "The notebook `minilm_sentiment` says where to get both folders. Other "
        "sentences: `seed=1`. How often are 2 of 2 right, and what do the others say "
        'then? `glove="glove.6B.50d.txt"` adds pretrained word vectors. With how many '
        "labels, `labels=50`, do the words alone begin to tell something?",
    },
    "self_supervised_cifar10": {
        "SETTINGS": 'dataset="cifar10_sample", labels=(5,), epochs=10, seeds=1, '
        "pretraining_batch=256, steps=50",
        "DATA": "data, pool = recipe.build_data(settings)",
        "MODEL": 'recipe.build_model(settings, "SimCLR")',
        "NEXT": "The sample has 2,000 images to pre-train on; the defaults take 5,000 "
        'of CIFAR-10. Your own: `data="my_photos"`, `unlabelled="many_photos"`, and '
        '`backbone="efficientnet_lite0", weights="imagenet", image_size=96`: does '
        "the pretrained network gain by looking at them?",
    },
    "how_much_data": {
        "SETTINGS": "limit=1000, labels=(40, 80, 160), seeds=3",
        "NEXT": 'More images than the sample has: `dataset="cifar10", limit=10000`. Is '
        'the forecast right? Your own: `data="my_photos"`. Another backbone moves the '
        'whole curve: `backbone="mobilenet_v2"`.',
    },
    "which_part_fails": {
        "SETTINGS": 'limit=300, faults=("none", "labels shuffled", "raw pixels", '
        '"one unit", "rate too low", "dark test")',
        "MODEL": "recipe.build_model(settings, len(data.class_names))[0]",
        "NEXT": "Which fault costs least, and is it still named? Your own images: "
        '`data="my_photos"`. A run of your own: `keras-tl diagnose RUN`.',
    },
    "pseudo_labels": {
        "SETTINGS": "limit=600, labels=(4,), copies=2, seeds=2",
        "NEXT": "Let the last blocks train as well: `blocks=2`. Your own images: "
        '`data="my_photos", unlabelled="many_photos"`. Does a lower `threshold` help, '
        "or do wrong answers become labels?",
    },
    "pretrain_then_transfer": {
        "SETTINGS": 'source="cifar10_sample", epochs=6, fine_tune_epochs=20',
        "DATA": "source, data = recipe.build_data(settings)",
        "MODEL": "recipe.heads.attach(\n"
        "    recipe.backbones.from_settings(settings), len(data.class_names)\n)",
        "NEXT": "Two classes that the other eight resemble more: "
        '`target_classes=("cat", "dog")`. All of CIFAR-10: `source="cifar10"`. Does '
        "the source's loss choose another epoch than the target's probe?",
    },
    "zero_shot_cifar10": {
        "SETTINGS": 'glove="glove.6B.50d.txt", limit=500, image_size=96, pairs=6, '
        "inner_pairs=6",
        "MODEL": "recipe.build_model(settings)[0]",
        "NEXT": "The vectors are at https://nlp.stanford.edu/projects/glove/. All "
        "`pairs=45`: which are told apart, and which are not? Describe classes by "
        'words that say how they look, or by attributes: `classes="classes.csv"`, also '
        "those that you have no image of.",
    },
    "update_with_new_classes": {
        "SETTINGS": "limit=300, exemplars=(2, 10), epochs=4, blocks=2, seeds=1",
        "NEXT": "Fewer `exemplars`: how many old images of each class are worth "
        "keeping? With `new_classes=5`, is more forgotten?",
    },
}
# Settings instead of those in a notebook, for `--only-run`: nothing is downloaded, and
# each takes less than a minute.
OFFLINE = {
    "few_labels": "labels=(2,), limit=60, image_size=64, steps=4, seeds=2",
    "layer_freezing": "sizes=(20, 40), limit=60, image_size=64, epochs=1, seeds=1",
    "quickstart": "limit=60, image_size=64, epochs=3, fine_tune_epochs=1, "
    "scratch_epochs=2",
    "resnet50_ants_bees": 'backbone="efficientnet_lite0", weights="imagenet", '
    "image_size=64, epochs=2, decay_every=1",
    "vgg16_cifar10": 'backbone="efficientnet_lite0", weights="imagenet", '
    'preprocessing=None, unfreeze_from="block7a", limit=40, epochs=2, '
    "fine_tune_epochs=1",
}
# Folders of photographs that notebooks expect; `--only-run` makes small ones.
PHOTOS = {"resnet50_ants_bees": "hymenoptera_data"}

# A section of a recipe's docstring, up to the next or to an empty line.
SECTION = re.compile(
    r"^([A-Z][a-z ]+):\s(.*?)(?=\n\n|\n[A-Z][a-z ]+:\s|\Z)", re.MULTILINE | re.DOTALL
)


def names() -> list[str]:
    """Return the names of all notebooks: those of recipes, and those with a source."""
    sources = {path.stem for path in NOTEBOOKS.glob("*.py")} - {"build"}
    return sorted({*cli.recipe_names(), *sources})


def unexecuted(name: str) -> nbformat.NotebookNode:
    """Return the notebook of a recipe as its source has it, without outputs."""
    path, slots = NOTEBOOKS / f"{name}.py", {}
    if not path.exists():
        path, slots = NOTEBOOKS / "template.txt", slots_of(name)
    source = path.read_text(encoding="utf-8")
    cells = []
    for number, cell in enumerate(jupytext.reads(source, fmt="py:percent").cells):
        text = cell.source
        for slot, value in slots.items():
            text = text.replace(f"__{slot}__", value)
        new = getattr(nbformat.v4, f"new_{cell.cell_type}_cell")(text)
        new["id"] = f"cell-{number}"
        if "tags" in cell.metadata:
            new.metadata["tags"] = cell.metadata["tags"]
        cells.append(new)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    # Otherwise the newest minor version that the installed nbformat knows.
    notebook.nbformat_minor = 5
    nbformat.validate(notebook)
    return notebook


def slots_of(name: str) -> dict[str, str]:
    """Return what fills the template for a recipe: slot -> text."""
    source = cli.recipe_path(name).read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source))
    title, *_ = docstring.splitlines()
    sections = dict(re.findall(SECTION, docstring))
    about = [
        f"**{section}:** {sections[section].strip()}"
        for section in ("Workflow", "What to learn from it", "Source")
        if section in sections
    ]
    own = {"NAME": name, "TITLE": title.rstrip("."), "ABOUT": "\n\n".join(about)}
    return TEMPLATE | SHORT[name] | own


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Run the cells from first to last, in `folder`; the outputs go into them."""
    with tempfile.TemporaryDirectory() as temporary:
        # The kernel is a process of its own: it leaves nothing in the user's folders.
        for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
            os.environ[variable] = str(Path(temporary, variable.lower()))
        # Optuna and KerasHub load tqdm, which would like to have ipywidgets.
        os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"
        NotebookClient(
            notebook,
            timeout=1200,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
        ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # When each cell ran.
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if len(data.get("image/png", "")) > MOST_OF_FIGURE:
                data["image/png"] = with_256_colours(data["image/png"])


def with_256_colours(encoded: str) -> str:
    """Return a PNG in base64 with a palette, a third of the size."""
    picture = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    buffer = io.BytesIO()
    picture.quantize(256).save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def replace_settings(notebook: nbformat.NotebookNode, arguments: str) -> None:
    """Add a cell behind the settings of a notebook that replaces some of them."""
    place = next(
        index
        for index, cell in enumerate(notebook.cells)
        if "parameters" in cell.metadata.get("tags", [])
    )
    source = (
        "import dataclasses\n\n"
        f"settings = dataclasses.replace(settings, **dict({arguments}))"
    )
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(source))


def write_photos(folder: Path) -> None:
    """Write a small folder of images: `train` and `val`, each with two classes.

    The images are those of two classes of the sample of CIFAR-10.
    """
    sample = datasets.sample()
    for name, split in {"train": sample.train, "val": sample.test}.items():
        for class_name in ("cat", "dog"):
            label = sample.class_names.index(class_name)
            place = folder / name / class_name
            place.mkdir(parents=True)
            for index in np.flatnonzero(split.labels == label)[:20]:
                image = Image.fromarray(split.read([index])[0])
                image.save(place / f"{index}.png")


def stale() -> dict[str, str]:
    """Find the stored notebooks that are not as they should be: name -> why."""
    reasons = {}
    for name in names():
        path = NOTEBOOKS / f"{name}.ipynb"
        if not path.exists():
            reasons[name] = "is missing"
            continue
        stored = nbformat.read(path, as_version=4)
        code = [cell for cell in stored.cells if cell.cell_type == "code"]
        counts = [cell.execution_count for cell in code]
        if contents(stored) != contents(unexecuted(name)):
            reasons[name] = "differs from its source"
        elif counts != [*range(1, len(code) + 1)]:
            reasons[name] = "was not executed from first to last cell"
        elif path.stat().st_size > MOST_BYTES:
            reasons[name] = f"is larger than {MOST_BYTES / 1e6:g} MB"
    for path in NOTEBOOKS.glob("*.ipynb"):
        if path.stem not in names():
            reasons[path.stem] = "has no recipe and no source; delete it"
    return reasons


def contents(notebook: nbformat.NotebookNode) -> list[tuple]:
    """Return what the source of a notebook decides: everything but the outputs."""
    return [
        (cell.cell_type, cell.id, cell.source, cell.metadata.get("tags"))
        for cell in notebook.cells
    ]


def main(arguments: list[str] | None = None) -> None:
    """Execute notebooks, or check the stored ones."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="notebook")
    parser.add_argument("--check", action="store_true", help="execute nothing")
    parser.add_argument("--only-run", action="store_true", help="store nothing")
    parser.add_argument(
        "--folder", type=Path, help="where to run them: the folder with their data"
    )
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(names())
    if unknown:
        parser.error(f"there is no notebook called {', '.join(sorted(unknown))}")
    if options.check:
        reasons = stale()
        if reasons:
            lines = [f"{name}.ipynb {reason}." for name, reason in reasons.items()]
            sys.exit("\n".join([*lines, "Run: python notebooks/build.py"]))
        return
    failed = []
    for name in options.names or [n for n in stale() if n in names()]:
        notebook = unexecuted(name)
        if options.only_run and name in OFFLINE:
            replace_settings(notebook, OFFLINE[name])
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as temporary:
            if options.only_run and name in PHOTOS and options.folder is None:
                write_photos(Path(temporary, PHOTOS[name]))
            try:
                execute(notebook, options.folder or Path(temporary))
            except CellExecutionError as error:
                print(error, file=sys.stderr)
                failed.append(name)
                continue
        if not options.only_run:
            text = nbformat.writes(notebook).rstrip("\n") + "\n"
            (NOTEBOOKS / f"{name}.ipynb").write_text(text, encoding="utf-8")
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
