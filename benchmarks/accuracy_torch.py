"""Contenders of `benchmarks.accuracy` that need PyTorch, for an interpreter of its own.

    pip install torch torchvision timm fastai          # in another environment

TensorFlow and PyTorch do not share a process well, so this file imports nothing of the
project: the weights come as a file of arrays, the accuracy goes to a file.

    python benchmarks/accuracy_torch.py NAME FOLDER END SEED WEIGHTS RESULT

END is the time, in seconds of the clock, at which it has to have ended.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import timm
import torch

IMAGE_SIZE = 160
ARCHITECTURE = "tf_efficientnet_lite0"
MEAN, STD = 127 / 255, 128 / 255


def fill(network: torch.nn.Module, weights: Path) -> None:
    """Copy the arrays of `accuracy.export_weights` into a network without a head."""
    arrays = iter(np.load(weights).values())
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight.copy_(torch.from_numpy(next(arrays)))
            elif isinstance(module, torch.nn.BatchNorm2d):
                for tensor in ("weight", "bias", "running_mean", "running_var"):
                    getattr(module, tensor).copy_(torch.from_numpy(next(arrays)))
    if next(arrays, None) is not None:
        raise ValueError("There are more arrays than layers.")


def tutorial(folder: Path, end: float, weights: Path) -> float:
    """Fine-tune as the PyTorch tutorial on transfer learning does.

    https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html: batches
    of 4, SGD at 0.001 that drops every seventh epoch, the epoch that validates best. It
    has 25 epochs there; here as many as there is time for.
    """
    from torchvision import datasets, transforms

    normalize = transforms.Normalize([MEAN] * 3, [STD] * 3)
    changed = [
        transforms.RandomResizedCrop(IMAGE_SIZE),
        transforms.RandomHorizontalFlip(),
    ]
    plain = [
        transforms.Resize(IMAGE_SIZE * 8 // 7),
        transforms.CenterCrop(IMAGE_SIZE),
    ]
    loaders = {}
    for name in ("train", "validation", "test"):
        steps = [
            *(changed if name == "train" else plain),
            transforms.ToTensor(),
            normalize,
        ]
        data = datasets.ImageFolder(folder / name, transforms.Compose(steps))
        loaders[name] = torch.utils.data.DataLoader(
            data, batch_size=4, shuffle=name == "train", num_workers=2
        )
    classes = len(loaders["train"].dataset.classes)
    model = timm.create_model(ARCHITECTURE, num_classes=0)
    fill(model, weights)
    model.reset_classifier(classes)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    loss_of = torch.nn.CrossEntropyLoss()
    best, state, reserve = -1.0, None, 0.0

    def score(name: str) -> float:
        model.eval()
        with torch.no_grad():
            right = [
                (model(x).argmax(1) == y).float().mean(0, keepdim=True) * len(y)
                for x, y in loaders[name]
            ]
        return float(torch.cat(right).sum()) / len(loaders[name].dataset)

    while time.time() < end - reserve:
        model.train()
        for x, y in loaders["train"]:
            optimizer.zero_grad()
            loss_of(model(x), y).backward()
            optimizer.step()
            if time.time() > end - reserve:
                break
        schedule.step()
        began = time.time()
        accuracy = score("validation")
        ratio = len(loaders["test"]) / len(loaders["validation"])
        reserve = 1.2 * (1 + ratio) * (time.time() - began)
        if accuracy > best:
            best = accuracy
            state = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(state)
    return score("test")


def fastai(folder: Path, end: float, weights: Path) -> float:
    """Fine-tune as fastai's book does: `lr_find`, then `fine_tune`.

    https://docs.fast.ai/tutorial.vision.html. `fine_tune` gets as many epochs as there
    is time for, after one with a frozen body; `lr_find` runs where it takes no more
    than a fifth of the time, and its proposal is taken, otherwise the default.
    """
    from fastai.vision import all as vision

    loaders = vision.ImageDataLoaders.from_folder(
        folder,
        train="train",
        valid="validation",
        item_tfms=vision.Resize(IMAGE_SIZE),
        batch_tfms=[
            *vision.aug_transforms(),
            vision.Normalize.from_stats([MEAN] * 3, [STD] * 3),
        ],
    )
    learner = vision.vision_learner(
        loaders,
        ARCHITECTURE,
        pretrained=False,
        normalize=False,
        metrics=vision.accuracy,
    )
    fill(learner.model[0].model, weights)
    learner.freeze()
    batch, labels = loaders.one_batch()
    steps = max(1, len(loaders.train))
    validating = len(loaders.valid_ds) / len(batch)
    test_files = vision.get_image_files(folder / "test")
    testing = len(test_files) / len(batch)

    def seconds(train: bool) -> float:
        learner.model.train(train)
        began = time.time()
        with torch.set_grad_enabled(train):
            output = learner.model(batch)
            if train:
                learner.loss_func(output, labels).backward()
        learner.opt = None
        learner.model.zero_grad()
        return time.time() - began

    seconds(False)
    forward = min(seconds(False) for _ in range(2)) * 1.3
    learner.unfreeze()
    whole = min(seconds(True) for _ in range(2)) * 1.3
    learner.freeze()
    left = end - time.time() - testing * forward
    rate = 2e-3
    if 100 * 1.3 * forward < left / 5:
        rate = learner.lr_find(show_plot=False).valley
        left = end - time.time() - testing * forward
    frozen = (1.3 * steps + validating) * forward
    epoch = steps * whole + validating * forward
    epochs = max(1, int((left - frozen) / epoch))
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs, rate)
    test = loaders.test_dl(test_files, with_labels=True)
    with learner.no_bar(), learner.no_logging():
        return float(learner.validate(dl=test)[1])


def main() -> None:
    """Run one contender, and write the test accuracy."""
    name, folder, end, seed, weights, result = sys.argv[1:]
    torch.manual_seed(int(seed))
    np.random.seed(int(seed))
    run = {"PyTorch tutorial": tutorial, "fastai": fastai}[name]
    accuracy = run(Path(folder), float(end) - 4, Path(weights))
    Path(result).write_text(json.dumps(accuracy), encoding="utf-8")


if __name__ == "__main__":
    main()
