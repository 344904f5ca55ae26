"""Small model files of each format, and hostile ones made of them."""

import io
import json
import pickle
import zipfile

import h5py
import keras
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder
from onnx import TensorProto, helper


def model():
    """A functional model with a branch, small enough to be mutated often."""
    image = keras.Input((4, 4, 3), name="image")
    x = keras.layers.Conv2D(2, 3, name="conv")(image)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, keras.layers.Dense(3, name="logits")(x), name="small")


def make_seeds(folder):
    """Write a file of each format, and return their paths."""
    model().save(folder / "model.keras")
    model().save_weights(folder / "model.weights.h5")
    with h5py.File(folder / "whole.h5", "w") as file:
        file.attrs["keras_version"] = "3.15.1"
        file.attrs["model_config"] = json.dumps(
            {"class_name": "Functional", "config": model().get_config()}
        )
        file["model_weights/logits/logits/kernel"] = np.ones((2, 3), "float32")
    (folder / "model.tflite").write_bytes(make_tflite())
    onnx.save(make_onnx(), folder / "model.onnx")
    names = ("model.keras", "model.weights.h5", "whole.h5", "model.tflite")
    return [folder / name for name in (*names, "model.onnx")]


def make_tflite(custom=None, rows=2):
    """A graph of one operator: inputs (1, 2) times a kernel of `rows` rows."""
    made, graph = schema.ModelT(), schema.SubGraphT()
    kernel, empty = schema.BufferT(), schema.BufferT()
    kernel.data = np.ones(24, "uint8")
    made.version, made.description = 3, b"made by a test"
    made.buffers = [empty, kernel]
    for name, shape, buffer in (
        ("x", (1, 2), 0),
        ("w", (rows, 3), 1),
        ("y", (1, 3), 0),
    ):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name.encode(), list(shape), buffer
        graph.tensors = [*(graph.tensors or []), tensor]
    code, operator = schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = schema.BuiltinOperator.FULLY_CONNECTED
    if custom:
        code.builtinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = custom.encode()
    code.deprecatedBuiltinCode = code.builtinCode
    operator.inputs, operator.outputs = [0, 1], [2]
    graph.inputs, graph.outputs, graph.operators = [0], [2], [operator]
    about = schema.MetadataT()
    about.name, about.buffer = b"about", 1
    made.operatorCodes, made.subgraphs, made.metadata = [code], [graph], [about]
    builder = Builder(1024)
    builder.Finish(made.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def make_onnx(domain="", location=None, dims=(2, 3)):
    """A graph of one operator, whose kernel can be in another file."""
    kernel = helper.make_tensor("w", TensorProto.FLOAT, (2, 3), np.ones(6, "float32"))
    del kernel.dims[:]
    kernel.dims.extend(dims)
    if location:
        kernel.ClearField("float_data")
        kernel.data_location = TensorProto.EXTERNAL
        kernel.external_data.add(key="location", value=location)
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="m", domain=domain)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in (("x", 2), ("y", 3))
    ]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [kernel])
    return helper.make_model(graph, producer_name="a test")


def rewritten(content, changes=(), more=()):
    """Return an archive with some of its parts changed, and with further ones."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts |= dict(changes)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, part in [*parts.items(), *more]:
            archive.writestr(name, part)
    return buffer.getvalue()


def with_layer(content, layer):
    """Return an archive whose model has a further layer in its configuration."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        config = json.loads(archive.read("config.json"))
    config["config"]["layers"].insert(1, layer)
    return rewritten(content, {"config.json": json.dumps(config).encode()})


def layer_of(class_name, module="keras.layers", registered=None, **config):
    """Return the configuration of a layer, as a file has it."""
    return {
        "module": module,
        "class_name": class_name,
        "config": {"name": "added", **config},
        "registered_name": registered,
        "build_config": {"input_shape": [None, 4]},
        "name": "added",
        "inbound_nodes": [],
    }


def bomb(content):
    """Return an archive with a part that unpacks to a hundred times its size."""
    buffer = io.BytesIO(content)
    with (
        zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("assets/zeros.bin", "w") as part,
    ):
        for _ in range(200):
            part.write(bytes(2**20))
    return buffer.getvalue()


def declared_bomb(content):
    """Return an archive whose list of parts says that one has 3 GB."""
    made = bytearray(bomb(content))
    where = made.rindex(b"PK\x01\x02")
    made[where + 24 : where + 28] = (3 * 10**9).to_bytes(4, "little")
    return bytes(made)


def overlapping(content):
    """Return an archive in whose list one part stands several times."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        start = archive.start_dir
    ending = content.rindex(b"PK\x05\x06")
    entries, end = content[start:ending], bytearray(content[ending:])
    count = int.from_bytes(end[10:12], "little") * 9
    end[8:12] = count.to_bytes(2, "little") * 2
    end[12:16] = (len(entries) * 9).to_bytes(4, "little")
    return content[:start] + entries * 9 + bytes(end)


def hdf5(add):
    """Return the content of an HDF5 file that a function has written."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["layers/dense/vars/0"] = np.ones((2, 3), "float32")
        add(file)
    return buffer.getvalue()


def external_link(file):
    file["layers/other"] = h5py.ExternalLink("/etc/passwd", "/")


def soft_link(file):
    file["layers/other"] = h5py.SoftLink("/layers/dense")


def external_array(file):
    options = {"shape": (4,), "dtype": "u1", "external": [("/etc/passwd", 0, 4)]}
    file.create_dataset("layers/dense/vars/1", **options)


def virtual_array(file):
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    file.create_virtual_dataset("layers/dense/vars/1", layout)


def large_array(file):
    file.create_dataset("layers/dense/vars/1", (10**12,), "float32", chunks=(1000,))


def large_arrays(file):
    for index in range(30):
        name = f"layers/dense/vars/{index + 1}"
        file.create_dataset(name, (2**22,), "float32", chunks=(1000,))


def npz(array):
    """Return the content of a NumPy archive with an array."""
    buffer = io.BytesIO()
    np.savez(buffer, array=array)
    return buffer.getvalue()


class Evil:
    """An object whose pickle runs a command when it is read."""

    def __reduce__(self):
        return print, ("executed",)


PICKLE = pickle.dumps(Evil())
