"""Settings with which a recipe takes seconds, and data for those that need some."""

import gzip
import itertools
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from keras_tl.data import datasets

SIZES = {
    "quickstart": {
        "limit": 40,
        "image_size": 32,
        "epochs": 2,
        "fine_tune_epochs": 1,
        "scratch_epochs": 1,
        "batch_size": 16,
    },
    "vgg16_cifar10": {
        "dataset": "cifar10_sample",
        "backbone": "mobilenet",
        "weights": None,
        "limit": 40,
        "image_size": 32,
        "epochs": 1,
        "fine_tune_epochs": 1,
        "unfreeze_from": "conv_dw_12",
        "batch_size": 16,
    },
    "cnn_cifar10": {
        "dataset": "cifar10_sample",
        "limit": 40,
        "epochs": 1,
        "batch_size": 16,
    },
}
FOLDER_SIZES = {
    "domain_adaptation_digits": {
        "tasks": ("USPS to MNIST",),
        "methods": ("CDAN+E",),
        "term_weights": (0.5, 1.0),
        "limit": 20,
        "epochs": 1,
        "seeds": 1,
        "batch_size": 16,
    },
    "domain_adaptation_pacs": {
        "methods": ("importance weighting", "DANN", "MCC"),
        "term_weights": (1.0,),
        "bottleneck": 8,
        "image_size": 32,
        "epochs": 1,
        "seeds": 1,
        "batch_size": 16,
    },
    "multi_task": {
        "image_size": 32,
        "blocks": 1,
        "epochs": 1,
        "seeds": 1,
        "batch_size": 16,
    },
    "resnet50_ants_bees": {
        "backbone": "mobilenet",
        "weights": None,
        "image_size": 32,
        "limit": 20,
        "epochs": 1,
        "batch_size": 4,
    },
}
PROBE_SIZES = {
    "feature_extraction": {"limit": 40, "image_size": 32, "layers": ("block2b_add",)},
}
EXPLAIN_SIZES = {
    "explain_predictions": {
        "limit": 40,
        "image_size": 32,
        "epochs": 1,
        "explained": 4,
        "shown": 2,
        "steps": 2,
        "batch_size": 16,
    },
}
SEARCH_SIZES = {
    "hyperparameter_search": {
        "trials": 2,
        "limit": 40,
        "image_size": 32,
        "epochs": 1,
        "batch_size": 16,
    },
}
STUDIES = {
    "distillation": {
        "limit": 40,
        "image_size": 32,
        "blocks": 1,
        "student_blocks": 2,
        "teacher_epochs": 1,
        "copies": 2,
        "epochs": 1,
        "seeds": 1,
        "batch_size": 16,
    },
    "compress_and_export": {
        "limit": 40,
        "image_size": 32,
        "blocks": 1,
        "epochs": 1,
        "fine_tune_epochs": 1,
        "prune_steps": 1,
        "prune_epochs": 1,
        "student_blocks": 2,
        "student_epochs": 1,
        "copies": 1,
        "calls": 2,
        "batch_size": 16,
    },
    "cross_validation": {
        "limit": 40,
        "image_size": 32,
        "folds": 2,
        "leave_one_out": 20,
        "fine_tune": True,
        "blocks": 1,
        "epochs": 1,
        "batch_size": 16,
    },
    "update_with_new_classes": {
        "limit": 60,
        "image_size": 32,
        "exemplars": (2,),
        "blocks": 1,
        "epochs": 1,
        "update_epochs": 1,
        "seeds": 1,
        "batch_size": 16,
    },
    "few_labels": {
        "labels": (2,),
        "methods": ("from scratch", "linear probe", "LoRA"),
        "blocks": 2,
        "limit": 60,
        "image_size": 32,
        "steps": 2,
        "seeds": 1,
        "batch_size": 16,
    },
    "four_quadrants": {
        "backbone": "mobilenet",
        "weights": None,
        "limit": 60,
        "few": 1,
        "many": 2,
        "augmentations": ("none",),
        "image_size": 32,
        "steps": 1,
        "batch_size": 16,
    },
    "gradual_unfreezing": {
        "backbone": "mobilenet",
        "weights": None,
        "methods": ("plain", "resizing"),
        "rates": (0.001,),
        "limit": 20,
        "image_size": 64,
        "small_size": 32,
        "blocks": 1,
        "head_epochs": 1,
        "epochs": 3,
        "seeds": 1,
        "batch_size": 16,
    },
    "self_supervised_cifar10": {
        "dataset": "cifar10_sample",
        "labels": (1,),
        "methods": ("Barlow Twins", "rotation", "distillation"),
        "limit": 60,
        "epochs": 1,
        "pretraining_batch": 16,
        "steps": 1,
        "seeds": 1,
        "batch_size": 16,
    },
    "how_much_data": {
        "limit": 60,
        "image_size": 32,
        "repeats": 2,
        "labels": (30, 40),
        "seeds": 1,
    },
    "which_part_fails": {
        "faults": ("none", "one unit"),
        "limit": 60,
        "image_size": 32,
        "epochs": 1,
    },
    "pseudo_labels": {
        "labels": (1,),
        "copies": 2,
        "blocks": 1,
        "threshold": 0.2,
        "limit": 40,
        "image_size": 32,
        "epochs": 1,
        "seeds": 1,
        "batch_size": 16,
    },
    "layer_freezing": {
        "sizes": (20,),
        "limit": 40,
        "image_size": 32,
        "every": 8,
        "seeds": 1,
        "epochs": 1,
        "batch_size": 16,
    },
}


TEXT_SIZES = {
    "minilm_sentiment": {
        "labels": 8,
        "sequence_length": 12,
        "epochs": 2,
        "blocks": 1,
        "fine_tune_epochs": 1,
        "batch_size": 8,
    },
}


SOUND_SIZES = {
    "spoken_digits": {
        "clips": (1, 2),
        "pairs": 1,
        "blocks": 1,
        "steps": 1,
        "batch_size": 8,
    },
}


UNSEEN_SIZES = {
    "zero_shot_cifar10": {
        "backbone": "mobilenet",
        "weights": None,
        "limit": 100,
        "image_size": 32,
        "pairs": 2,
        "inner_pairs": 2,
        "epochs": 1,
        "batch_size": 16,
    },
}


TRANSFER = {
    "source": "cifar10_sample",
    "limit": 64,
    "labels": 4,
    "epochs": 3,
    "fine_tune_epochs": 2,
    "batch_size": 16,
}


SENTENCES = {"unlabelled": 8, "words": 1, "sequence_length": 12, "epochs": 4}
PAINTING = {
    "weights": None,
    "image_size": 40,
    "limit": 6,
    "steps": 2,
    "training_steps": 1,
}


def photographs(folder: Path, seed: int = 0) -> Path:
    """Write a folder of three classes of noisy colours, of odd sizes."""
    rng = np.random.default_rng(seed)
    for channel, name in enumerate(("red", "green", "blue")):
        (folder / name).mkdir(parents=True)
        for index in range(12):
            height, width = rng.integers(20, 60, 2)
            pixels = rng.integers(0, 120, (height, width, 3))
            pixels[..., channel] += 120
            image = Image.fromarray(pixels.astype("uint8"))
            image.save(folder / name / f"{index}.png")
    return folder


def tones(folder: Path) -> Path:
    """Write low and high tones."""
    import soundfile

    rng, times = np.random.default_rng(0), np.arange(4000) / 8000
    for name, hertz in (("high", 2000), ("low", 300)):
        (folder / name).mkdir(parents=True)
        for take in range(20):
            wave = np.sin(2 * np.pi * hertz * rng.uniform(0.8, 1.2) * times)
            wave = 0.3 * wave + rng.normal(0, 0.01, 4000)
            soundfile.write(folder / name / f"{take}.wav", wave, 8000)
    return folder


def recordings(folder: Path) -> Path:
    """Write two words as three speakers say them: tones, high and low."""
    import soundfile

    rng = np.random.default_rng(0)
    folder.mkdir()
    for index, speaker in itertools.product(range(8), ("ada", "bob", "cleo")):
        for word, hertz in (("high", 2000), ("low", 300)):
            time = np.arange(rng.integers(2000, 5000)) / 8000
            wave = 0.3 * np.sin(2 * np.pi * hertz * rng.uniform(0.9, 1.1) * time)
            wave += rng.normal(0, 0.01, len(time))
            soundfile.write(folder / f"{word}_{speaker}_{index}.wav", wave, 8000)
    return folder


def words(path: Path) -> Path:
    """Write vectors of the names of the sample's classes, at random."""
    names = datasets.sample().class_names
    rows = np.random.default_rng(0).normal(size=(len(names), 4))
    path.write_text(
        "".join(
            f"{name} {' '.join(f'{value:.4f}' for value in row)}\n"
            for name, row in zip(names, rows, strict=True)
        )
    )
    return path


def digits(folder: Path) -> Path:
    """Write 200 digits of each kind, in the formats of MNIST and of USPS."""
    rng = np.random.default_rng(0)
    labels = np.arange(200, dtype="uint8") % 10
    (folder / "mnist").mkdir(parents=True)
    for name in ("train", "t10k"):
        pixels = rng.integers(0, 256, (200, 28, 28), dtype="uint8")
        for kind, content in (
            ("images-idx3", bytes(16) + pixels.tobytes()),
            ("labels-idx1", bytes(8) + labels.tobytes()),
        ):
            path = folder / "mnist" / f"{name}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(content))
    with h5py.File(folder / "usps.h5", "w") as file:
        for name in ("train", "test"):
            group = file.create_group(name)
            group["data"] = rng.random((200, 256), dtype="float32")
            group["target"] = labels.astype("int32")
    return folder


def reviews(folder: Path) -> Path:
    """Write tables of good and bad reviews that can be told apart."""
    rng = np.random.default_rng(0)
    folder.mkdir()

    def write(name, count, column):
        lines = [f"label\t{column}"]
        for index in range(count):
            word = ("bad", "good")[index % 2]
            others = " ".join(rng.choice(["a", "film", "plot", "the"], 3))
            lines.append(f"{word}\tthe {word} {others}s number {index}")
        (folder / name).write_text("\n".join(lines) + "\n")

    write("train.tsv", 80, "sentence")
    write("dev.tsv", 20, "content")
    return folder


def bert(folder: Path) -> Path:
    """Write a random BERT of two layers, as Hugging Face lays it out."""
    import tokenizers
    from safetensors import numpy as numpy_files
    from tokenizers import models, normalizers, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "good", "bad", "film", "##s"]
    words += ["very", "dull", "fine", "plot", "and", "the", "."]
    width, layers_count, inner = 8, 2, 16
    rng = np.random.default_rng(0)

    def linear(name, rows, columns):
        weight = rng.normal(0, 0.3, (rows, columns)).astype("float32")
        return {f"{name}.weight": weight, f"{name}.bias": np.zeros(rows, "float32")}

    def norm(name):
        ones, zeros = np.ones(width, "float32"), np.zeros(width, "float32")
        return {f"{name}.weight": ones, f"{name}.bias": zeros}

    tensors = norm("embeddings.LayerNorm") | linear("pooler.dense", width, width)
    for name, rows in (("word", len(words)), ("position", 16), ("token_type", 2)):
        table = rng.normal(0, 0.5, (rows, width)).astype("float32")
        tensors[f"embeddings.{name}_embeddings.weight"] = table
    for index in range(layers_count):
        layer = f"encoder.layer.{index}"
        for part in ("query", "key", "value"):
            tensors |= linear(f"{layer}.attention.self.{part}", width, width)
        tensors |= linear(f"{layer}.attention.output.dense", width, width)
        tensors |= norm(f"{layer}.attention.output.LayerNorm")
        tensors |= linear(f"{layer}.intermediate.dense", inner, width)
        tensors |= linear(f"{layer}.output.dense", width, inner)
        tensors |= norm(f"{layer}.output.LayerNorm")
    folder.mkdir(exist_ok=True)
    numpy_files.save_file(tensors, folder / "model.safetensors")
    config = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": len(words),
        "hidden_size": width,
        "num_hidden_layers": layers_count,
        "num_attention_heads": 2,
        "intermediate_size": inner,
        "hidden_dropout_prob": 0.1,
        "max_position_embeddings": 16,
        "type_vocab_size": 2,
    }
    (folder / "config.json").write_text(json.dumps(config))
    numbers = {word: number for number, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def whisper(folder: Path) -> Path:
    """Write a random Whisper of two layers, as Hugging Face lays it out."""
    from safetensors import numpy as numpy_files

    width, bands, inner = 8, 10, 16
    shapes = {"conv1": (width, bands, 3), "conv2": (width, width, 3)}
    for index in range(2):
        layer = f"layers.{index}"
        for part in ("q", "k", "v", "out"):
            shapes[f"{layer}.self_attn.{part}_proj"] = (width, width)
        shapes |= {f"{layer}.fc1": (inner, width), f"{layer}.fc2": (width, inner)}
        for part in ("self_attn", "final"):
            shapes[f"{layer}.{part}_layer_norm"] = (width,)
    shapes |= {"layer_norm": (width,), "embed_positions": (50, width)}
    rng = np.random.default_rng(0)
    tensors = {}
    for name, shape in shapes.items():
        tensors[f"{name}.weight"] = rng.normal("norm" in name, 0.3, shape)
        if not name.endswith(("k_proj", "positions")):
            tensors[f"{name}.bias"] = rng.normal(0, 0.3, shape[:1])
    folder.mkdir(exist_ok=True)
    numpy_files.save_file(
        {f"model.encoder.{k}": v.astype("float16") for k, v in tensors.items()}
        | {"model.decoder.layer_norm.weight": np.ones(width, "float16")},
        folder / "model.safetensors",
    )
    config = {
        "model_type": "whisper",
        "d_model": width,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": inner,
        "num_mel_bins": bands,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def domains(folder: Path) -> Path:
    """Write the photographs of two domains."""
    photographs(folder / "photos")
    shutil.copytree(folder / "photos", folder / "sketches")
    for path in (folder / "sketches").rglob("*.png"):
        Image.open(path).rotate(180).save(path)
    return folder


def train(name: str, folder: Path) -> list[str]:
    """Return the arguments of a `keras-tl train`, whose data are written.

    Args:
        name: One of `TRAINED`.
        folder: A new folder.
    """
    folder.mkdir(parents=True)
    data, arguments = folder / "data", ["--batch-size", "8"]
    if name == "train texts":
        reviews(data)
        arguments += ["--weights", bert(folder / "bert"), "--sequence-length", "12"]
    elif name == "train sound":
        tones(data)
        arguments += ["--backbone", "whisper", "--weights", whisper(folder / "whisper")]
    else:
        photographs(data)
        arguments += ["--image-size", "32"]
    if name == "train images, a minute":
        arguments += ["--minutes", "1"]
    else:
        arguments += ["--epochs", "2", "--freeze", "none", "--learning-rate", "0.001"]
    return ["train", *map(str, [data, *arguments])]


TRAINED = ("train images", "train images, a minute", "train texts", "train sound")
# Name -> recipe and settings that it has besides: what is most likely to go wrong.
VARIANTS = {
    "quickstart, cut_mix": ("quickstart", {"augment": "cut_mix"}),
    "quickstart, mix_up": ("quickstart", {"augment": "mix_up"}),
    "vgg16_cifar10, rand_augment": ("vgg16_cifar10", {"augment": "rand_augment"}),
    "cnn_cifar10, average_weights": ("cnn_cifar10", {"average_weights": True}),
    "vgg16_cifar10, find_rate": (
        "vgg16_cifar10",
        {
            "find_rate": True,
            "class_weights": True,
            "tensorboard": True,
            "choose_by": "last",
        },
    ),
}


def settings(name: str, folder: Path) -> dict:
    """Return settings of a recipe, whose data are written to a new folder."""
    folder.mkdir(parents=True)
    known = {**SIZES, **FOLDER_SIZES, **PROBE_SIZES, **EXPLAIN_SIZES, **SEARCH_SIZES}
    known |= {**STUDIES, **TEXT_SIZES, **SOUND_SIZES, **UNSEEN_SIZES}
    known |= {"pretrain_then_transfer": TRANSFER}
    sizes = known.get(name, {})
    if name in ("multi_task", "domain_adaptation_pacs"):
        return {**sizes, "data": domains(folder / "data")}
    if name == "domain_adaptation_digits":
        return {**sizes, "data": digits(folder / "data")}
    if name == "resnet50_ants_bees":
        photographs(folder / "data" / "train")
        photographs(folder / "data" / "val", seed=1)
        return {**sizes, "data": folder / "data"}
    if name == "minilm_sentiment":
        texts = {"data": reviews(folder / "data"), "weights": bert(folder / "bert")}
        return {**sizes, **texts}
    if name == "sentiment_from_72_sentences":
        (folder / "glove.txt").write_text("good 1 0\nbad 0 1\nfilm 0 0\n")
        texts = {"data": reviews(folder / "data"), "glove": folder / "glove.txt"}
        return {**SENTENCES, **texts}
    if name == "spoken_digits":
        sound = {"backbone": "whisper", "methods": ("frozen", "fine-tuned")}
        sound |= {"weights": whisper(folder / "weights")}
        return {**sizes, **sound, "data": recordings(folder / "data")}
    if name == "zero_shot_cifar10":
        return {**sizes, "glove": words(folder / "words.txt")}
    if name == "style_transfer":
        pictures = photographs(folder / "data")
        return {
            "content": (pictures / "red" / "0.png",),
            "style": pictures / "blue" / "1.png",
            "data": pictures / "green",
            "methods": ("random network", "optimized", "feed-forward"),
            **PAINTING,
        }
    return sizes
