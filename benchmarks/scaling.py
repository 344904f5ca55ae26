"""What training on 8, 64 and 512 GPUs takes, by arithmetic: docs/beyond_one_machine.md.

Nothing here is measured on a GPU. Counted from the models: multiplications, parameters,
sizes of features. Measured on this machine: the size of a JPEG and how many of them a
core decodes. Everything else is an assumption with its source, a field of
`Assumptions`. `benchmarks.stragglers` simulates what the arithmetic leaves out.

    python -m benchmarks.scaling            # measure, compute and show, two minutes
    python -m benchmarks.scaling --keep     # and write results/scaling and the page
"""

import dataclasses
import datetime
import io
import math
import sys
import time
from dataclasses import dataclass

from benchmarks import harness, pages, scaling_page, stragglers

GPUS = (1, 8, 64, 512)
SIZE = 224


def _given(value, unit, source):
    return dataclasses.field(default=value, metadata={"unit": unit, "source": source})


def _measured(unit, source):
    return dataclasses.field(metadata={"unit": unit, "source": source})


@dataclass(frozen=True)
class Assumptions:
    """Numbers that the arithmetic begins with; each has its unit and its source."""

    jpeg_bytes: float = _measured(
        "bytes", "measured: photographs of scikit-learn, short side 256 px, quality 90"
    )
    decoded_per_second: float = _measured(
        "images a second", "measured: one core decodes them and cuts 224 px out"
    )
    images: float = _given(1e9, "images", "the question")
    classes: float = _given(1000, "classes", "as ImageNet")
    batch: float = _given(256, "images a GPU and step", "chosen")
    head_batch: float = _given(
        4096, "rows a GPU and step", "chosen, features are small"
    )
    head_share: float = _given(0.05, "of the peak", "a guess: one small matrix product")
    peak: float = _given(
        989e12, "FLOP/s", "data sheets of H100 and H200 SXM: bfloat16 without sparsity"
    )
    cores: float = _given(24, "cores a GPU", "AWS p5.48xlarge: 192 vCPUs for 8 H100")
    gpus_per_machine: float = _given(8, "GPUs", "DGX H100, p5.48xlarge")
    nvlink: float = _given(
        450e9, "bytes/s a GPU", "H100 SXM: 900 GB/s, half of it in each direction"
    )
    network: float = _given(
        50e9, "bytes/s a GPU", "one 400 Gb/s port a GPU: DGX H100, p5.48xlarge"
    )
    slow_network: float = _given(
        100e9 / 8 / 8, "bytes/s a GPU", "100 Gb/s Ethernet, shared by 8 GPUs"
    )
    network_share: float = _given(0.8, "of a link", "a guess at what protocols leave")
    latency: float = _given(5e-6, "s a hop", "a guess, of the order of a small message")
    store: float = _given(
        25e9, "bytes/s for the job", "a guess: 200 Gb/s; providers set quotas"
    )
    store_port: float = _given(
        12.5e9, "bytes/s a machine", "a guess: 100 Gb/s from the store to each machine"
    )
    feature_bytes: float = _given(2, "bytes a number", "bfloat16")
    gradient_bytes: float = _given(
        4, "bytes a number", "float32: Keras keeps variables in it"
    )
    gpu_hour: float = _given(
        4.92, "US dollars", "AWS Capacity Blocks, H100, 2024; an input, ask your own"
    )
    gigabyte_month: float = _given(
        0.023, "US dollars", "list price of S3 standard; an input too"
    )


@dataclass(frozen=True)
class Model:
    """What the arithmetic needs of a backbone at 224 px.

    Attributes:
        name: For people.
        parameters: Of the backbone, without a head.
        flops: Operations of a forward pass of an image, two for a multiplication and
            its addition.
        block_parameters: Parameters of the last block and what follows it; of ResNet50
            that is the last stage, of three blocks.
        block_flops: Operations of a forward pass of these.
        pooled: Numbers of a pooled feature vector.
        map: Numbers of the last feature map.
        cut: Numbers of the feature map that the last block takes.
        share: Share of the GPU's peak that training reaches.
        source: Where `share` is from.
    """

    name: str
    parameters: int
    flops: int
    block_parameters: int
    block_flops: int
    pooled: int
    map: int
    cut: int
    share: float
    source: str


# Backbone -> name, last block, share of the peak and where that is from.
COUNTED = {
    "vgg16": ("VGG16", "block5", 0.28, "a guess: dense convolutions as in ResNet50"),
    "resnet50": (
        "ResNet50",
        "conv5_block1",
        0.28,
        "NVIDIA, MXNet 22.10, 8 A100: 90 epochs of ImageNet in 1.14 h",
    ),
    "efficientnet_b0": (
        "EfficientNetB0",
        "block7a",
        0.015,
        "NVIDIA, PyTorch 21.03, 8 A100: 16,368 images/s (wide SE)",
    ),
    "efficientnet_lite0": (
        "EfficientNet-Lite0",
        "block7a",
        0.015,
        "a guess: depthwise convolutions as in EfficientNetB0",
    ),
}


def count(name: str) -> Model:
    """Count a backbone of Keras, and its last block, cut off where it would train."""
    from keras_tl.models import backbones, freezing, heads, splitting

    title, block, share, source = COUNTED[name]
    backbone = backbones.load(name, weights=None, image_size=SIZE)
    freezing.freeze(backbone)
    model = heads.attach(backbone, 2)
    freezing.unfreeze_from(model, block)
    stem, _ = splitting.split_at(model, splitting.frozen_cut(model)[1])
    return Model(
        name=title,
        parameters=backbone.count_params(),
        flops=2 * multiplications(backbone),
        block_parameters=backbone.count_params() - stem.count_params(),
        block_flops=2 * (multiplications(backbone) - multiplications(stem)),
        pooled=backbone.output.shape[-1],
        map=math.prod(backbone.output.shape[1:]),
        cut=math.prod(stem.output.shape[1:]),
        share=share,
        source=source,
    )


def multiplications(model) -> int:
    """Count the multiplications of convolutions and dense layers for one example.

    >>> import keras
    >>> layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, padding="same")]
    >>> multiplications(keras.Sequential(layers)) == 8 * 8 * 3 * 3 * 3 * 4
    True
    """
    return sum(
        math.prod(layer.output.shape[1:-1]) * math.prod(layer.kernel.shape)
        for layer in model._flatten_layers()
        if hasattr(layer, "kernel")
    )


def vision_transformer() -> Model:
    """Count ViT-B/16 by its definition: 12 layers of width 768, 196 patches of 16 px.

    Reference:
        Dosovitskiy et al., "An image is worth 16x16 words", 2021, arXiv:2010.11929.

    >>> f"{vision_transformer().parameters:,}"
    '85,798,656'
    """
    width, layers, side = 768, 12, 16
    patches = (SIZE // side) ** 2
    tokens = patches + 1
    pixels = 3 * side**2
    # Queries, keys, values and their projection; two layers of four times the width.
    matrices = (4 + 8) * width**2
    biases = (4 + 5) * width + 2 * 2 * width
    each = tokens * matrices + 2 * tokens**2 * width
    return Model(
        name="ViT-B/16",
        parameters=(
            pixels * width
            + width  # the bias of the patches
            + width  # the token of the class
            + tokens * width  # positions
            + layers * (matrices + biases)
            + 2 * width  # the last normalization
        ),
        flops=2 * (patches * pixels * width + layers * each),
        block_parameters=matrices + biases + 2 * width,
        block_flops=2 * each,
        pooled=width,
        map=tokens * width,
        cut=tokens * width,
        share=0.22,
        source="nvSubquadratic, ViT-5-Small, one H100, compiled",
    )


def all_reduce(size: float, gpus: int, bandwidth: float, latency: float) -> float:
    """Compute the seconds of a ring all-reduce.

    Every byte but one share goes round twice: once to be added, once to be known.

    Args:
        size: Bytes that each GPU has.
        gpus: Number of them.
        bandwidth: Bytes a second from one to the next.
        latency: Seconds from one to the next, however small the message.

    Reference:
        Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of
        workstations", Journal of Parallel and Distributed Computing 69, 2009.

    >>> all_reduce(8e9, 1, 1e9, 1)
    0.0
    >>> all_reduce(8e9, 8, 1e9, 0)
    14.0
    """
    return 2 * (gpus - 1) / gpus * size / bandwidth + 2 * (gpus - 1) * latency


@dataclass(frozen=True)
class Task:
    """What an epoch does with each image.

    Attributes:
        flops: Operations of an image.
        read: Bytes of it that are read.
        reduced: Bytes of the gradients, of which there is a sum in every step.
        decodes: Whether it is a JPEG.
        batch: Images a GPU and step.
        share: Share of the GPU's peak that is reached.
    """

    flops: float
    read: float
    reduced: float
    decodes: bool
    batch: float
    share: float


def tasks(model: Model, given: Assumptions) -> dict[str, Task]:
    """Return what an epoch does, for each way to use a backbone."""
    head = (model.pooled + 1) * given.classes
    head_flops = 2 * model.pooled * given.classes
    image = {"read": given.jpeg_bytes, "decodes": True}
    kept = {"decodes": False}
    common = {"batch": given.batch, "share": model.share}

    def gradients(parameters):
        return given.gradient_bytes * (parameters + head)

    # A backward pass takes twice the operations of a forward pass.
    return {
        "features, once": Task(flops=model.flops, reduced=0, **image, **common),
        "head on features": Task(
            flops=3 * head_flops,
            read=given.feature_bytes * model.pooled,
            reduced=gradients(0),
            batch=given.head_batch,
            share=given.head_share,
            **kept,
        ),
        "last block": Task(
            flops=model.flops + 2 * model.block_flops,
            reduced=gradients(model.block_parameters),
            **image,
            **common,
        ),
        "last block on features": Task(
            flops=3 * model.block_flops,
            read=given.feature_bytes * model.cut,
            reduced=gradients(model.block_parameters),
            **kept,
            **common,
        ),
        "all of it": Task(
            flops=3 * model.flops,
            reduced=gradients(model.parameters),
            **image,
            **common,
        ),
    }


def epoch(
    task: Task, gpus: int, given: Assumptions, bandwidth: float | None = None
) -> dict:
    """Compute the time and cost of an epoch, and what it waits for.

    Reading and decoding go on while a step computes; gradients are added afterwards,
    and nothing of it is hidden behind the backward pass.

    Args:
        task: What is done with each image.
        gpus: Number of GPUs.
        given: The assumptions.
        bandwidth: Of the network, in bytes a second and GPU, instead of the assumed.
    """
    together = min(gpus, given.gpus_per_machine)
    if together == gpus:
        bandwidth = given.nvlink
    bandwidth = (bandwidth or given.network) * given.network_share
    compute = task.batch * task.flops / (given.peak * task.share)
    reduce = 0.0
    if task.reduced:
        reduce = all_reduce(task.reduced, gpus, bandwidth, given.latency)
    parts = {
        "compute": compute,
        "network": reduce,
        "decoding": task.decodes
        * task.batch
        / (given.cores * given.decoded_per_second),
        "reading": task.batch
        * task.read
        * max(gpus / given.store, together / given.store_port),
    }
    waits = max(("decoding", "reading"), key=parts.get)
    if parts[waits] <= compute + reduce:
        waits = max(("compute", "network"), key=parts.get)
    step = max(compute + reduce, parts["decoding"], parts["reading"])
    seconds = step * given.images / (task.batch * gpus)
    return {
        "gpus": gpus,
        "step": step,
        "parts": parts,
        "waits_for": waits,
        "seconds": seconds,
        "efficiency": compute / step,
        "dollars": seconds / 3600 * gpus * given.gpu_hour,
        "read_per_second": task.batch * gpus * task.read / step,
        "reduced": task.reduced,
        "images_per_hour": 3600 * task.batch * gpus / step,
    }


def compute(models: list[Model], given: Assumptions) -> list[dict]:
    """Compute all rows: every model, task and number of GPUs, and the slow network."""
    rows = []
    for model in models:
        for name, task in tasks(model, given).items():
            for gpus in GPUS:
                about = {"model": model.name, "task": name}
                rows.append(about | {"slow": False} | epoch(task, gpus, given))
                if gpus > given.gpus_per_machine:
                    slow = epoch(task, gpus, given, given.slow_network)
                    rows.append(about | {"slow": True} | slow)
    return rows


def measure_images(seconds: float = 5.0) -> tuple[float, float]:
    """Measure the bytes of a JPEG, and how many of them a core decodes in a second."""
    import numpy as np
    from PIL import Image
    from sklearn import datasets

    files = []
    for photo in datasets.load_sample_images().images:
        image = Image.fromarray(photo)
        scale = 256 / min(image.size)
        image = image.resize([round(side * scale) for side in image.size])
        file = io.BytesIO()
        image.save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    done, started = 0, time.process_time()
    while time.process_time() - started < seconds:
        for file in files:
            image = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
            np.ascontiguousarray(image[16 : 16 + SIZE, 16 : 16 + SIZE])
            done += 1
    return (
        sum(map(len, files)) / len(files),
        done / (time.process_time() - started),
    )


def main() -> None:
    """Measure, count, compute and simulate."""
    size, rate = measure_images()
    given = Assumptions(jpeg_bytes=round(size), decoded_per_second=round(rate))
    models = [*map(count, COUNTED), vision_transformer()]
    result = {
        "date": datetime.date.today().isoformat(),
        "assumptions": dataclasses.asdict(given),
        "models": [dataclasses.asdict(model) for model in models],
        "rows": compute(models, given),
        "simulated": stragglers.scenarios(),
        **harness.machine(),
    }
    for name in scaling_page.TABLES:
        print(f"\n{name}\n\n{scaling_page.TABLES[name](result)}")
    if "--keep" in sys.argv:
        pages.keep("scaling", result)
        scaling_page.draw(result)


if __name__ == "__main__":
    main()
