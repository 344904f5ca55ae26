"""Steps that train all of VGG16: float32, bfloat16, and PyTorch beside them."""

import functools

import numpy as np

from benchmarks.harness import Benchmark, MissingError, check_bfloat16

SIZE, BATCH, STEPS, CLASSES, RATE = 32, 128, 4, 10, 1e-4
# Channels of VGG16's convolutions; 0 is a pooling that halves the sides.
LAYERS = (64, 64, 0, 128, 128, 0, *(256,) * 3, 0, *(512,) * 3, 0, *(512,) * 3, 0)


def _data():
    rng = np.random.default_rng(0)
    shape = (BATCH * STEPS, SIZE, SIZE, 3)
    return rng.integers(0, 256, shape, dtype="uint8"), np.arange(shape[0]) % CLASSES


def ours(precision):
    """An epoch of `pipeline.Training`, compiled as the phases do it."""
    import keras

    from keras_tl.data import pipeline
    from keras_tl.data.splits import Split
    from keras_tl.models import backbones, heads
    from keras_tl.training import placement

    if precision != "float32":
        check_bfloat16()
    place = placement.choose(precision=precision)
    backbone = backbones.load("vgg16", weights=None, image_size=SIZE)
    model = heads.attach(backbone, CLASSES, dropout=0.0)
    model.compile(
        keras.optimizers.Adam(RATE),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        **placement.compile_options(place, BATCH * model.count_params()),
    )
    batches = pipeline.Training(Split(*_data()), BATCH, 0, num_classes=CLASSES).epoch(0)

    def run():
        model.fit(batches, verbose=0)
        return BATCH * STEPS

    return run


def pytorch(precision):
    """The same network and optimizer in PyTorch, channels last."""
    try:
        import torch
    except ImportError as error:
        raise MissingError("needs torch, extra bench") from error
    from torch import nn

    torch.manual_seed(0)
    before, layers = 3, []
    for channels in LAYERS:
        if channels:
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU()]
            before = channels
        else:
            layers.append(nn.MaxPool2d(2))
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, CLASSES)]
    model = nn.Sequential(*layers).to(memory_format=torch.channels_last)
    optimizer, loss = torch.optim.Adam(model.parameters(), RATE), nn.CrossEntropyLoss()
    images, labels = map(torch.from_numpy, _data())
    mean, std = torch.tensor([123.7, 116.3, 103.5]), torch.tensor([58.4, 57.1, 57.4])
    in_bfloat16 = precision == "mixed_bfloat16"

    def run():
        for rows in torch.randperm(len(images)).split(BATCH):
            x = ((images[rows] - mean) / std).permute(0, 3, 1, 2)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
                logits = model(x)
            loss(logits.float(), labels[rows]).backward()
            optimizer.step()
        return BATCH * STEPS

    return run


def _benchmark(cases, at_least):
    return Benchmark(
        title=f"Steps that train all of VGG16, {SIZE} px, batch {BATCH}",
        item="image",
        cases={
            name: functools.partial(case, precision)
            for name, (case, precision) in cases.items()
        },
        ours=next(iter(cases)),
        at_least=at_least,
        limit="1.88 GFLOP an image at the machine's matrix rate",
        seconds=8.0,
    )


BENCHMARKS = {
    "step_float32": _benchmark(
        {"keras_tl": (ours, "float32"), "PyTorch": (pytorch, "float32")},
        {"PyTorch": 0.95},
    ),
    "step_bfloat16": _benchmark(
        {
            "keras_tl, bfloat16": (ours, "mixed_bfloat16"),
            "keras_tl, float32": (ours, "float32"),
            "PyTorch, bfloat16": (pytorch, "mixed_bfloat16"),
        },
        {"keras_tl, float32": 1.25, "PyTorch, bfloat16": 0.95},
    ),
}
