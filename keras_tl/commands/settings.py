"""Settings that the commands have in common; nothing heavy is imported here."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, get_args

import tyro

from keras_tl import cluster as clusters
from keras_tl import environment, errors, files
from keras_tl.config import RunSettings, Settings
from keras_tl.data import remote
from keras_tl.data.choices import NOUNS, BadFiles, FileKind, Resize, Task
from keras_tl.data.settings import Augment, AugmentSound
from keras_tl.models import catalog
from keras_tl.training.settings import CacheSettings, Precision, Strategy


@dataclass(frozen=True)
class OwnDataSettings(Settings):
    """Settings of data of one's own; see `datasets.load`."""

    # DATA above: folder of images, clips of sound or texts, table of them with their
    # labels, what `keras-tl pack` has written, here or at an address, or name of a
    # dataset.
    data: str
    kind: FileKind | None = None  # What the examples are; by default as they look.
    # Column of a table with the texts, or with the paths of images or clips.
    input_column: str | None = None
    # Column of a table with the labels; several are separated by commas.
    label_column: str | None = None
    split_column: str | None = None  # Column of a table that names the splits.
    root: Path | None = None  # Folder that the paths in a table are relative to.
    # Regular expression on the paths of files, whose group names the class, where it is
    # not the name of a folder.
    labels: str | None = None
    # Column of a table, or regular expression on the paths of files whose group names
    # what belongs together: images of a patient, clips of a speaker. Groups are never
    # split.
    groups: str | None = None
    encoding: str = "utf-8"  # Encoding of tables and texts, such as cp1252.
    # What the labels are; by default as they look.
    task: Task | None = None
    # How an image becomes a square: its middle, all of it with borders, or all of it
    # distorted.
    resize: Resize = "crop"
    # What to do with files that are broken: stop with an error, or skip them.
    bad_files: BadFiles = "error"
    # File with one path in each line, of examples to leave out, as `check` writes it.
    leave_out: Path | None = None
    limit: int | None = None  # Keep at most this many examples of each split.

    def __post_init__(self):
        super().__post_init__()
        if not self.data:
            raise errors.expected("data", "name a folder, a table or a dataset", "")
        path = Path(self.data)
        # Names of datasets may have a slash as well.
        inside = len(path.parts) > 1 and path.parent.is_dir()
        is_path = path.is_absolute() or self.data[0] in ".~" or inside
        if is_path and not path.exists():
            raise errors.expected(
                "data",
                "be a folder or table that exists, or the name of a dataset",
                self.data,
            )
        if self.limit is not None:
            errors.check_at_least("limit", self.limit, 1)
        for name in ("root", "leave_out"):
            path = getattr(self, name)
            if path is not None and not Path(path).exists():
                raise errors.expected(name, "exist", str(path))
        errors.check_encoding(self.encoding)


# Backbones of texts and of sound that have names; see `train_texts`, `train_sound`.
WORD_VECTORS = "word_vectors"
LOG_MEL, SPEECH, WHISPER = "log_mel_cnn", "speech_embedding", "whisper"
BACKBONES = {"text": (WORD_VECTORS,), "audio": (LOG_MEL, SPEECH, WHISPER)}
# Setting of `Train` -> the kinds of data that it means something for.
MEANT_FOR = {
    "resize": ("image",),
    "image_size": ("image",),
    "preprocessing": ("image",),
    "sequence_length": ("text",),
    "seconds": ("audio",),
    "augment": ("image", "audio"),
}


@dataclass(frozen=True)
class Train(RunSettings, CacheSettings, OwnDataSettings):
    """Train a classifier for your images, texts or sound in a given time.

    Whatever is not given is decided by what is measured, and printed with its reason;
    the run says how good the model is.
    """

    minutes: float = 10.0  # Minutes for all of it, on this machine.
    # Keep at most this many training examples, and at most a quarter as many, or 500,
    # of each other split.
    limit: int | None = None
    # Name of the pretrained backbone: of images such as `mobilenet_v2` or
    # `mobilenet:0.25`; of texts `hub:PRESET` of KerasHub, or `word_vectors`, which are
    # learned from the training texts; of sound `log_mel_cnn`, which is not pretrained,
    # `whisper` or `speech_embedding`.
    backbone: str | None = None
    # Pretrained weights. Of images, a file for the backbone, instead of those of
    # ImageNet. Of texts, the folder of an encoder of the BERT family, as Hugging Face
    # lays it out. Of sound, the folder of Whisper, or one with embedding_model.tflite.
    weights: Path | None = None
    preprocessing: str | None = None  # Scale of pixels for the weights of that file.
    image_size: int | None = None  # Side of the square images, in pixels.
    sequence_length: int | None = None  # Tokens of a text; longer texts are cut.
    # Length of a clip in seconds; longer ones are cut to their loudest part.
    seconds: float | None = None
    # What stays frozen in fine-tuning: all layers, none, or those up to this block.
    freeze: str | None = None
    epochs: int | None = None  # Epochs of fine-tuning; 0 leaves it out.
    learning_rate: float | None = None  # Largest learning rate of fine-tuning.
    # Random changes of the training images, or, the last two, of clips.
    augment: Literal[Augment, AugmentSound] | None = None
    class_weights: bool = False  # Weight all classes equally in the training loss.
    # Examples per step, over all devices, and a multiple of their number.
    batch_size: int = 32
    precision: Precision = "float32"  # Numbers that layers compute with.
    # Devices: all GPUs of this machine, or of all machines that TF_CONFIG names.
    strategy: Strategy = "auto"

    COMMAND = "keras-tl train"
    # Settings of the lengths of phases that more of may be advised: none, as the
    # command advises itself, minutes where it has decided the epochs.
    LENGTHS = MappingProxyType({})

    def __post_init__(self):
        super().__post_init__()
        for name in ("minutes", "seconds", "learning_rate"):
            if getattr(self, name) is not None:
                errors.check_above(name, getattr(self, name), 0)
        errors.check_at_least("batch_size", self.batch_size, 1)
        for name, least in (("epochs", 0), ("sequence_length", 3)):
            if getattr(self, name) is not None:
                errors.check_at_least(name, getattr(self, name), least)
        if self.image_size is not None:
            errors.side("image_size", self.image_size)
        if self.weights is not None and not Path(self.weights).exists():
            raise errors.expected(
                "weights", "be a file or folder that exists", str(self.weights)
            )
        if self.kind is not None:
            self.check_for(self.kind)
        elif not self._names_no_image():
            # What else they are for is known once the data have been looked at.
            self._check_images()

    def check_for(self, kind: FileKind) -> None:
        """Raise `InputError` for settings that a kind of examples cannot use."""
        defaults = {field.name: field.default for field in fields(self)}
        for name, kinds in MEANT_FOR.items():
            value = getattr(self, name)
            if kind not in kinds and value not in (None, "none", defaults[name]):
                nouns = " and ".join(NOUNS[one] for one in kinds)
                wanted = f"be left out of {NOUNS[kind]}: it is for {nouns}"
                raise errors.expected(name, wanted, value)
        if kind == "image":
            self._check_images()
            return
        if self.augment not in (None, *get_args(AugmentSound)):
            raise errors.unknown("augment", self.augment, get_args(AugmentSound))
        if self.weights is not None:
            errors.check_folder("weights", self.weights)
        if self.backbone is None:
            return
        names = BACKBONES[kind]
        is_preset = kind == "text" and self.backbone.startswith(catalog.HUB)
        if not is_preset and self.backbone not in names:
            raise errors.unknown("backbone", self.backbone, names)
        if self.weights is not None and self.backbone not in (SPEECH, WHISPER):
            raise errors.expected(
                "weights", f"be left out with {self.backbone}", str(self.weights)
            )

    def _names_no_image(self) -> bool:
        """Return whether backbone or weights are those of texts or of sound."""
        if self.backbone is not None:
            return any(self.backbone in names for names in BACKBONES.values())
        names = ("config.json", "embedding_model.tflite")
        weights = self.weights
        return weights is not None and any((Path(weights) / n).is_file() for n in names)

    def _check_images(self):
        if self.augment in get_args(AugmentSound)[1:]:
            raise errors.unknown("augment", self.augment, get_args(Augment))
        if self.backbone is None and (self.weights or self.preprocessing):
            raise errors.expected(
                "backbone",
                "be given together with weights or preprocessing",
                None,
                "Weights for texts or sound are a folder: see --help.",
            )
        name, _ = catalog.width(self.backbone or catalog.EMBEDDED)
        of_hub = name.startswith(
            catalog.HUB
        )  # Its own size is known once it is loaded.
        size = self.image_size or (32 if of_hub else catalog.find(name).native_size)
        weights = "imagenet" if self.weights is None else self.weights
        catalog.check(name, weights, size, self.preprocessing)


@dataclass(frozen=True)
class Plan(Train):
    """Decide how to train on your data in a given time, without training.

    The decisions are printed with their reasons, and written to the new file of --out,
    by default plan.json, or plan-2.json where that exists. `keras-tl train --config`
    takes it.
    """

    out: Path | None = None  # New file for the decisions; by default plan.json.

    COMMAND = "keras-tl plan"


@dataclass(frozen=True)
class Rank(CacheSettings, OwnDataSettings):
    """Rank pretrained models for your images, texts or sound without training them."""

    # Backbones to rank: names of keras.applications, as `mobilenet_v2` or
    # `mobilenet:0.25` with a width, or KerasHub presets and folders, as
    # `hub:vit_base_patch16_224_imagenet`; by default those whose weights are on this
    # machine. For texts: folders of encoders, as Hugging Face lays them out.
    backbones: tuple[str, ...] = ()
    # Files of weights, as NAME=FILE, or NAME:PREPROCESSING=FILE where they were trained
    # under another scale of the pixels: tf, torch, caffe, lite or none. For sound:
    # speech_embedding=FOLDER, whisper=FOLDER.
    weights: tuple[str, ...] = ()
    # Side of the square images, in pixels. By default 96, or what a backbone needs.
    image_size: int | None = None
    score: Literal["logistic", "ridge", "neighbours"] = "logistic"  # What decides.
    limit: int | None = 2000  # Keep at most this many examples of each split.
    seed: int = 0  # Seed of splits, probes and intervals.
    out: Path | None = None  # New folder for table, figure and numbers.

    def __post_init__(self):
        super().__post_init__()
        environment.check_keras()
        if not 0 <= self.seed < 2**31:
            raise errors.expected("seed", f"be in [0, {2**31 - 1}]", self.seed)
        if self.image_size is not None:
            errors.check_at_least("image_size", self.image_size, 32)
        for one in self.backbones:
            if not Path(one).is_dir():  # Of an encoder.
                catalog.width(one)
        for one in self.weights:
            name, contract, file = self.split(one)
            if name in (SPEECH, WHISPER) or Path(file).is_dir():
                continue  # Of sound: checked once it is known what the data are.
            smallest = catalog.find(name).smallest_size
            catalog.check(name, file, self.image_size or smallest, contract)
        if self.out is not None:
            files.check_new(self.out)

    @staticmethod
    def split(text: str) -> tuple[str, str | None, str]:
        """Split NAME=FILE, or NAME:PREPROCESSING=FILE.

        >>> Rank.split("vgg16:torch=a/vgg16.weights.h5")
        ('vgg16', 'torch', 'a/vgg16.weights.h5')
        """
        name, equals, file = text.partition("=")
        if not equals or not file:
            hint = "For texts: --backbones FOLDER. For sound: whisper=FOLDER."
            raise errors.expected("weights", "be NAME=FILE", text, hint)
        name, _, contract = name.partition(":")
        return name, contract or None, file


@dataclass(frozen=True)
class Curve(CacheSettings, OwnDataSettings):
    """Compute how many more examples an accuracy needs, and of which classes.

    A linear classifier learns from more and more of the training examples, on frozen
    features, and validation judges it. DATA can be the folder of a run of images, whose
    backbone, as it was before it was trained, and data are taken.
    """

    # Backbone whose features are used, as `rank` names it; of texts the folder of an
    # encoder. By default the embedded one; of texts and sound, what needs no weights.
    backbone: str | None = None
    # Its weights, as `rank` names them: NAME=FILE, NAME:PREPROCESSING=FILE, or of sound
    # speech_embedding=FOLDER or whisper=FOLDER.
    weights: str | None = None
    # Side of the square images, in pixels. By default 96, or what the backbone needs.
    image_size: int | None = None
    accuracy: float = 0.95  # Accuracy that is wanted, in (0, 1).
    # Draws of training examples for each size; by default 5, or 2 with --fine-tune.
    repeats: int | None = None
    # Fine-tune the last quarter of the blocks for each size, as well: minutes, in place
    # of seconds. For images.
    fine_tune: bool = False
    # Folder of images without labels: those to label next are written to
    # label_next.csv of --out.
    unlabelled: Path | None = None
    # How they are chosen: where a classifier is least sure, or unlike all with labels.
    method: Literal["margin", "core-set"] = "margin"
    label: int = 100  # How many to choose of them.
    seed: int = 0  # Seed of splits, draws and intervals.
    out: Path | None = None  # New folder for table, figure and numbers.

    def __post_init__(self):
        super().__post_init__()
        if self.repeats is not None:
            errors.check_at_least("repeats", self.repeats, 2)
        if self.fine_tune:
            clusters.check_alone()
        errors.check_at_least("label", self.label, 1)
        if not 0 < self.accuracy < 1:
            raise errors.expected("accuracy", "be in (0, 1)", self.accuracy)
        if self.unlabelled is not None:
            errors.check_folder("unlabelled", self.unlabelled, "It holds images.")
            if self.out is None:
                raise errors.expected("out", "be given with unlabelled", None)
        if self.backbone is not None and self.weights is not None:
            raise errors.expected(
                "backbone", "be left out with weights, which name it", self.backbone
            )
        names = () if self.backbone is None else (self.backbone,)
        files_of = () if self.weights is None else (self.weights,)
        # What both commands take is checked once, by that one.
        shared = {"image_size": self.image_size, "seed": self.seed, "out": self.out}
        Rank(self.data, backbones=names, weights=files_of, **shared)


@dataclass(frozen=True)
class Diagnose(CacheSettings):
    """Find which part of a finished run costs the accuracy, and what to try next.

    Each part is replaced by one that is known to work, in cheap runs on features that
    are computed once: the labels, the backbone, its preprocessing, the head, its
    training, the number of examples, the splits. What the accuracy on validation gains
    is what the part costs. For runs of images with one class each; the result is added
    to their report.
    """

    run: Path = field(kw_only=True)  # RUN above: folder of the finished run.
    # Look at so many training examples at most, and a quarter as many, or 500, of the
    # other splits.
    limit: int = 1000
    seed: int = 0  # Seed of all that is drawn.

    POSITIONAL = "run"

    def __post_init__(self):
        super().__post_init__()
        environment.check_keras()
        errors.check_at_least("limit", self.limit, 10)
        if not 0 <= self.seed < 2**31:
            raise errors.expected("seed", f"be in [0, {2**31 - 1}]", self.seed)
        if not Path(self.run).is_dir():
            raise errors.expected("run", "be the folder of a run", str(self.run))


@dataclass(frozen=True)
class Check(OwnDataSettings):
    """Check data before training; ends with status 1 where something is wrong."""

    seed: int = 0  # Seed with which splits that are missing are drawn.
    # Whether to look for wrong labels, odd images and splits that differ, by the
    # features of a pretrained backbone; of texts, for splits that differ in words.
    features: bool = True
    cache: bool = True  # Keep the features for training.
    model: Path | None = None  # File of a Keras model to check with the data.
    script: Path | None = None  # Python file whose calls of Keras are checked.
    page: Path | None = None  # New HTML file with the findings and examples.
    # New file for the paths of the examples to leave out, for --leave-out.
    fix_list: Path | None = None
    json: bool = False  # Print the findings as JSON, and nothing else.

    def __post_init__(self):
        super().__post_init__()
        for name in ("model", "script"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise errors.expected(name, "be a file that exists", str(path))
        for name in ("page", "fix_list"):
            path = getattr(self, name)
            if path is not None and Path(path).exists():
                raise errors.expected(
                    name,
                    "name a file that does not exist yet",
                    str(path),
                    "Nothing is overwritten: choose another name, or move that one "
                    "away.",
                )


@dataclass(frozen=True)
class Pack(OwnDataSettings):
    """Pack data into a few large files, which every command then takes as DATA.

    Files are stored as they are, with labels, splits and names: what is trained on the
    packed folder is what would be trained on DATA.
    """

    out: Path = field(kw_only=True)  # New folder for the packed data.
    shard_size: float = 256.0  # Size of a file, in MB.
    # Left to the commands that read the packed folder.
    resize: Annotated[Resize, tyro.conf.Suppress] = "crop"
    limit: Annotated[None, tyro.conf.Suppress] = None
    seed: Annotated[int, tyro.conf.Suppress] = 0

    def __post_init__(self):
        super().__post_init__()
        errors.check_above("shard_size", self.shard_size, 0)
        if remote.address(self.out) is not None:
            hint = "Copy it to the address with the tool of that service."
            raise errors.expected("out", "be on this machine", str(self.out), hint)
        files.check_new(self.out)
        if Path(self.out).absolute().is_relative_to(Path(self.data).absolute()):
            hint = "The data stay as they are: name a folder outside of them."
            raise errors.expected("out", "not be in the data", str(self.out), hint)


@dataclass(frozen=True)
class Serve(Settings):
    """Serve finished runs on this machine: a web page, and an API for programs."""

    # Folders of finished runs, or NAME=FOLDER. The first one answers requests that name
    # no run.
    runs: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN [RUN ...]"),
    ]
    # Address to listen at. By default only this machine can reach the server. With the
    # address 0.0.0.0 other machines can too, and a token should be set.
    host: str = "127.0.0.1"
    port: int = 8000  # Port to listen at; 0 takes a free one.
    # Secret of at least 16 characters that every client has to send. Other users of
    # this machine can read the command line; the environment variable KERAS_TL_TOKEN
    # sets the token without being seen there.
    token: str | None = None
    # Folder for examples whose labels users have corrected, with a sub-folder for each
    # run; by default RUN-corrections, beside each run.
    corrections: Path | None = None
    megabytes: float = 32.0  # Largest size of a request.
    megapixels: float = 50.0  # Largest size of an image.
    count: int = 32  # Most images, clips or texts of a request.
    seconds: float = 30.0  # Longest time from the start of a request to its answer.
    clip_seconds: float = 60.0  # Length of the longest clip of sound.
    queue: int = 256  # Most images, clips or texts that wait or are computed.

    POSITIONAL = None

    def __post_init__(self):
        super().__post_init__()
        if not self.runs:
            raise errors.expected("runs", "name at least one finished run", self.runs)
        if not 0 <= self.port < 2**16:
            raise errors.expected("port", "be in [0, 65535]", self.port)
        for name in ("megabytes", "megapixels", "seconds", "clip_seconds"):
            errors.check_above(name, getattr(self, name), 0)
        errors.check_at_least("count", self.count, 1)
        errors.check_at_least("queue", self.queue, self.count)
        token = self.token
        if token is not None and not (len(token) >= 16 and token.isascii()):
            # It is not repeated: it may be in use elsewhere.
            raise errors.InputError(
                "`token` must have at least 16 characters, all of ASCII."
            )
        if self.corrections is not None and Path(self.corrections).is_file():
            raise errors.expected("corrections", "be a folder", str(self.corrections))


@dataclass(frozen=True)
class Compare(Settings):
    """Compare finished runs on one page: accuracies, tests, settings, curves, classes.

    Every run is compared with the first one, on the test examples of both.
    """

    # Folders of finished runs of the same data, at least two.
    runs: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN RUN [RUN ...]"),
    ]
    # New HTML file; by default compare.html, or compare-2.html where that exists.
    out: Path | None = None

    POSITIONAL = None

    def __post_init__(self):
        super().__post_init__()
        if len(self.runs) < 2:
            raise errors.expected(
                "runs", "name at least two finished runs", " ".join(self.runs)
            )
        known = {}
        for run in self.runs:
            before = known.setdefault(Path(run).resolve(), run)
            if before is not run:
                raise errors.expected(
                    "runs", "name each run once", f"{before} and {run}"
                )


# What `deploy.export.FORMATS` describes.
EXPORT_FORMATS = ("litert", "litert-int8", "onnx", "savedmodel", "keras")


@dataclass(frozen=True)
class Export(Settings):
    """Export a finished run to a folder that needs neither keras-tl nor its run.

    The folder holds the model, what it takes and gives (contract.json), and predict.py,
    a short program that needs the runtime alone. The export is compared with the model
    on real examples; one that differs is not written.
    """

    run: Path  # RUN above: folder of the finished run.
    # litert (phones, small computers; the fastest here), litert-int8 (a quarter of the
    # size), onnx, savedmodel (TensorFlow Serving), or keras.
    format: str = "litert"
    out: Path | None = None  # New folder for the export; RUN-FORMAT if None.
    # Folder of images or clips, or table of texts, like those the model is for, to
    # compare on and to calibrate int8 with; by default the run's own data.
    examples: Path | None = None
    # Largest difference of logits that is allowed, as a multiple of the largest logit
    # where that is above 1; by default 0.001, and any with int8.
    tolerance: float | None = None
    # Share of answers that must be the same; by default 0.99, 0.9 with int8.
    agreement: float | None = None

    POSITIONAL = "run"

    def __post_init__(self):
        super().__post_init__()
        if self.format not in EXPORT_FORMATS:
            raise errors.unknown("format", self.format, EXPORT_FORMATS)
        if self.tolerance is not None:
            errors.check_above("tolerance", self.tolerance, 0)
        if self.agreement is not None and not 0 <= self.agreement <= 1:
            raise errors.expected("agreement", "be in [0, 1]", self.agreement)
        if self.examples is not None and not Path(self.examples).exists():
            raise errors.expected("examples", "exist", str(self.examples))

    @property
    def folder(self) -> Path:
        """The new folder."""
        if self.out is not None:
            return self.out
        run = self.run.resolve()
        return run.with_name(f"{run.name}-{self.format}")


@dataclass(frozen=True)
class Update(RunSettings, CacheSettings, OwnDataSettings):
    """Update a finished run with more examples, or with new classes.

    The update is a new run. It is measured on the test examples of the old one, and
    rejected, with status 1, where it is significantly worse on them, or where it adds
    no class and no epoch was better on validation.
    """

    # Folder of new images, clips or texts, table of them, or name of a dataset.
    data: str = ""
    run: Path = field(kw_only=True)  # RUN above: folder of the finished run.
    # What keeps the old classes: their examples, rehearsed; their answers (lwf); the
    # weights they depend on (ewc); or nothing (naive).
    method: Literal["rehearsal", "lwf", "ewc", "naive"] = "rehearsal"
    exemplars: int = 100  # Most old training examples of each class to rehearse.
    blocks: int = 0  # Blocks of the backbone that train, from the output back.
    minutes: float = 10.0  # Minutes for all of it, on this machine.
    epochs: int = 30  # Most epochs; training ends when validation gets no better.
    learning_rate: float = 1e-3  # Largest learning rate of the head.
    # Examples per step, over all devices, and a multiple of their number.
    batch_size: int = 32
    # Loss of accuracy on the old test examples that is accepted, from 0 to 1, such as
    # 0.02 for two points. An update that loses significantly more is rejected.
    margin: float = 0.02
    # Another pretrained backbone for images, on which the head is fitted anew.
    backbone: str | None = None
    weights: Path | None = None  # File with its weights, instead of those of ImageNet.
    preprocessing: str | None = None  # Scale of pixels for the weights of that file.
    # Undo the last update: use the version before it again. Nothing is trained.
    rollback: bool = False

    COMMAND = "keras-tl update"
    POSITIONAL = "run"
    # No phase is advised to be longer: the command would start from another version.
    LENGTHS = MappingProxyType({})

    def __post_init__(self):
        if self.rollback:
            Settings.__post_init__(self)
            if self.data or self.out is not None:
                raise errors.expected(
                    "rollback", "stand alone: it trains nothing", self.rollback
                )
        else:
            super().__post_init__()
            self._check()
        if not Path(self.run).is_dir():
            raise errors.expected("run", "be the folder of a run", str(self.run))

    def _check(self):
        for name in ("exemplars", "epochs", "batch_size"):
            errors.check_at_least(name, getattr(self, name), 1)
        errors.check_at_least("blocks", self.blocks, 0)
        for name in ("minutes", "learning_rate"):
            errors.check_above(name, getattr(self, name), 0)
        if not 0 <= self.margin <= 1:
            raise errors.expected("margin", "be in [0, 1]", self.margin)
        if self.resize != "crop":
            hint = "Images become squares as those of the run did."
            raise errors.expected("resize", "be left out", self.resize, hint)
        if self.task not in (None, "single-label"):
            raise errors.expected("task", "be single-label, or left out", self.task)
        if self.backbone is None and (self.weights or self.preprocessing):
            raise errors.expected(
                "backbone", "be given together with weights or preprocessing", None
            )
        if self.backbone is None:
            return
        if self.method != "rehearsal" or self.blocks:
            raise errors.expected(
                "backbone",
                "be left out with another method or with blocks: its head is fitted "
                "anew, on old and new images",
                self.backbone,
            )
        name, _ = catalog.width(self.backbone)
        weights = "imagenet" if self.weights is None else self.weights
        size = 32 if name.startswith(catalog.HUB) else catalog.find(name).native_size
        catalog.check(name, weights, size, self.preprocessing)


@dataclass(frozen=True)
class Inspect(Settings):
    """Show what is in a model file without executing any of it.

    Prints format, size, hash, layers, parameters and metadata, and what of the file
    loading would refuse or run. It is read in a process of its own, with limits. Ends
    with status 1 where there is something to refuse, with status 2 where the file
    cannot be read.
    """

    # FILE above: file that ends in .keras, .h5, .tflite or .onnx; of a run, its
    # model.keras.
    file: Path
    json: bool = False  # Print all of it as JSON instead.
    layers: int = 60  # Most layers that are listed.
    seconds: float = 60.0  # Time that reading may take.
    # MiB of memory that reading may take, besides twice the size of the file.
    megabytes: float = 2048.0

    POSITIONAL = "file"

    def __post_init__(self):
        super().__post_init__()
        errors.check_at_least("layers", self.layers, 0)
        errors.check_above("seconds", self.seconds, 0)
        errors.check_at_least("megabytes", self.megabytes, 512)


@dataclass(frozen=True)
class ClusterRun(Settings):
    """Run a recipe, or train, on workers that Ray starts, and starts again.

    The options of the recipe are given as well: those of `keras-tl run RECIPE`, or,
    for `train`, first DATA, then those of `keras-tl train`. Every worker runs that
    command on its share of each batch. When one fails, all go on with `--resume` from
    the last epoch. The output of worker 0 is shown, that of the others is written to a
    folder beside the results, RESULTS-workers.

    On several machines, start it in a folder that all of them share at the same path,
    with data and results in it or at paths that all have; keras-tl must be installed
    on each.
    """

    # Number of processes that train one model: one for each machine of a cluster.
    workers: int
    # Ray cluster to use, as host:port or auto; by default the one that RAY_ADDRESS
    # names, or a new one on this machine.
    address: str | None = None
    cpus_per_worker: int = 1  # Processors that Ray reserves for each worker.
    gpus_per_worker: int = 0  # GPUs of each worker.
    restarts: int = 3  # Times that all workers are started again after a failure.

    def __post_init__(self):
        super().__post_init__()
        for name in ("workers", "cpus_per_worker"):
            errors.check_at_least(name, getattr(self, name), 1)
        for name in ("gpus_per_worker", "restarts"):
            errors.check_at_least(name, getattr(self, name), 0)
        if self.address is not None and "://" in self.address:
            hint = "Start the command on a machine of the cluster."
            raise errors.expected("address", "be host:port or auto", self.address, hint)


# Name of a command -> its settings.
COMMANDS: dict[str, type[Settings]] = {
    "export": Export,
    "check": Check,
    "pack": Pack,
    "train": Train,
    "plan": Plan,
    "rank": Rank,
    "curve": Curve,
    "diagnose": Diagnose,
    "compare": Compare,
    "serve": Serve,
    "update": Update,
    "inspect": Inspect,
}
