"""Describe a `.keras`, `.h5`, `.tflite` or `.onnx` file without executing anything.

Neither Keras, TensorFlow nor a runtime is loaded. A file can still be made to crash the
libraries that read it, or to keep them busy: `inspection` does it in a process of its
own.
"""

import math
import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from keras_tl import errors
from keras_tl.models import untrusted
from keras_tl.models.untrusted import Contents, shown

# Most layers, tensors and entries of metadata that are read of a file.
MOST = 100_000
# Most entries of metadata, inputs and outputs that are kept.
_FEW = 100
# Most bytes that protocol buffers can have.
_LARGEST_ONNX = 2**31
# Domains of ONNX whose operators every runtime has, or which ONNX Runtime adds.
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")


@dataclass(frozen=True)
class Tensor:
    """An input or output; `shape` and `dtype` are `None` where a file leaves it open.

    A size that is not fixed is `None` in `shape`.
    """

    name: str
    shape: list[int | None] | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class Layer:
    """A layer of Keras, or an operator of another format.

    Attributes:
        name: Its name; of an operator without one, that of its output.
        kind: Its class, or type.
        parameters: Number of its weights; `None` where the file does not tell.
        dtype: Type that it computes or stores in; `None` where the file does not tell.
    """

    name: str
    kind: str
    parameters: int | None = None
    dtype: str | None = None


@dataclass
class Description:
    """What a file says of itself.

    Attributes:
        format: Name of its format.
        written_by: The program that wrote it, with its version.
        date: When, as the file has it.
        parameters: Number of all weights.
        layers: Its layers in their order.
        inputs: What the model takes.
        outputs: What it returns.
        metadata: Whatever else it says, as texts.
        parts: Name of each file in an archive -> its size in bytes when unpacked.
        problems: What loading refuses or would run, each as the end of a sentence that
            begins with the file.
    """

    format: str
    written_by: str | None = None
    date: str | None = None
    parameters: int = 0
    layers: list[Layer] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict:
        """Return it as JSON has it."""
        return asdict(self)


def describe(path: Path | str) -> Description:
    """Describe a model file by its suffix.

    Args:
        path: File that ends in .keras, .h5, .hdf5, .tflite or .onnx.

    Raises:
        InputError: There is no such file, it is damaged, its format is another one, or
            what reads it is not installed.
    """
    path = Path(path)
    check(path)
    try:
        return _READERS[path.suffix.lower()](path)
    except (errors.InputError, MemoryError):
        raise
    except Exception as error:  # Readers raise nearly any type on a damaged file.
        raise errors.InputError(
            f"The model file {path} is truncated, damaged or no {path.suffix} file: "
            f"{shown(errors.reason(error))}."
        ) from error


def check(path: Path) -> None:
    """Raise `InputError` for what is no file, or of no format that is known.

    >>> check(Path("model.pb"))
    Traceback (most recent call last):
        ...
    keras_tl.errors.InputError: There is no model file model.pb.
    """
    untrusted.check_is_file(path)
    if path.suffix.lower() not in _READERS:
        raise errors.expected("file", f"end in {', '.join(_READERS)}", str(path))


def _keras(path) -> Description:
    contents = untrusted.read(path)
    made = _of_contents("Keras 3 archive", contents)
    made.date = _text(contents.metadata.get("date_saved"))
    if contents.config is not None:
        own = _layers_of(contents.config)
        sizes = dict(zip(_places(own), own, strict=True))
        counts = _counts(contents.arrays, r"/layers/([^/]+)/")
        made.layers = [
            _layer(layer, counts.get(place, 0 if counts else None))
            for place, layer in sizes.items()
        ]
    return made


def _hdf5(path) -> Description:
    contents = untrusted.read(path)
    if contents.config is not None:
        made = _of_contents("Keras model in HDF5", contents)
        counts = _counts(contents.arrays, r"/model_weights/([^/]+)/")
        made.layers = [
            _layer(layer, counts.get(_config(layer).get("name"), 0))
            for layer in _layers_of(contents.config)
        ]
        return made
    made = _of_contents("weights in HDF5", contents)
    groups = {}
    for array in contents.arrays:
        place = re.sub(r"/vars$", "", array.name.rpartition("/")[0]) or "/"
        groups.setdefault(place, []).append(array)
    made.layers = [
        Layer(place, "weights", sum(one.size for one in arrays), arrays[0].dtype)
        for place, arrays in list(groups.items())[:MOST]
    ]
    return made


def _of_contents(kind, contents: Contents) -> Description:
    """Describe what is the same in both formats of Keras."""
    own = {"keras_version", "date_saved"}
    made = Description(
        kind,
        written_by=f"Keras {contents.version}" if contents.version else None,
        parameters=sum(
            array.size
            for array in contents.arrays
            if "optimizer" not in array.name and "seed_generator" not in array.name
        ),
        metadata=_metadata(
            (name, value)
            for name, value in contents.metadata.items()
            if name not in own
        ),
        parts=dict(list(contents.parts.items())[:MOST]),
        problems=list(contents.problems),
    )
    if contents.config:
        made.metadata["model"] = shown(contents.config.get("class_name"))
        inputs, outputs = _ends(contents.config)
        made.inputs, made.outputs = inputs[:_FEW], outputs[:_FEW]
    return made


def _text(value) -> str | None:
    return None if value is None else shown(value)


def _metadata(entries) -> dict[str, str]:
    """Return the first entries of metadata as texts."""
    pairs = zip(range(_FEW), entries, strict=False)
    return {shown(name): shown(value) for _, (name, value) in pairs}


def _config(one) -> dict:
    config = one.get("config") if isinstance(one, dict) else None
    return config if isinstance(config, dict) else {}


def _layers_of(config) -> list[dict]:
    """Return the configurations of the layers, or of the model where it has none."""
    layers = _config(config).get("layers")
    if not isinstance(layers, list):
        return [config]
    return [one for one in layers if isinstance(one, dict)][:MOST]


def _layer(one, parameters) -> Layer:
    config = _config(one)
    dtype = config.get("dtype")
    if isinstance(dtype, dict):
        dtype = _config(dtype).get("name")
    return Layer(
        shown(config.get("name", one.get("name", ""))),
        shown(one.get("class_name", "?")),
        parameters,
        _text(dtype),
    )


def _places(layers: Sequence[dict]) -> Iterator[str]:
    """Yield the name of each layer's group in the weights, as Keras numbers them.

    >>> list(_places([{"class_name": "Conv2D"}, {"class_name": "Dense"}] * 2))
    ['conv2d', 'dense', 'conv2d_1', 'dense_1']
    """
    used = {}
    for layer in layers:
        name = re.sub(r"\W+", "", str(layer.get("class_name")))
        name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
        name = re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
        number = used[name] = used.get(name, -1) + 1
        yield f"{name}_{number}" if number else name


def _counts(arrays, pattern) -> dict[str, int]:
    """Count the weights of each layer, whose place is the group of a pattern."""
    counts = {}
    for array in arrays:
        found = re.match(pattern, array.name)
        if found and "seed_generator" not in array.name:
            counts[found[1]] = counts.get(found[1], 0) + array.size
    return counts


def _ends(config) -> tuple[list[Tensor], list[Tensor]]:
    """Return inputs and outputs of a functional or sequential model."""
    inner, layers = _config(config), _layers_of(config)
    by_name = {str(_config(one).get("name")): _config(one) for one in layers}

    def tensors(references):
        for name in _first_names(references):
            own = by_name.get(name, {})
            shape = own.get("batch_shape", own.get("batch_input_shape"))
            yield Tensor(shown(name), _shape(shape), _text(_dtype(own)))

    if "input_layers" in inner:
        return (
            list(tensors(inner["input_layers"])),
            list(tensors(inner.get("output_layers"))),
        )
    first = [one for one in layers if one.get("class_name") == "InputLayer"]
    names = [str(_config(one).get("name")) for one in first[:1]]
    last = [str(_config(one).get("name")) for one in layers[-1:]]
    return list(tensors(names)), list(tensors(last))


def _dtype(config):
    dtype = config.get("dtype")
    return _config(dtype).get("name") if isinstance(dtype, dict) else dtype


def _first_names(references) -> list[str]:
    """Return the layers of references such as ["image", 0, 0], in lists or objects."""
    if isinstance(references, str):
        return [references]
    if isinstance(references, dict):
        references = list(references.values())
    if not isinstance(references, list):
        return []
    if references and isinstance(references[0], str) and len(references) == 3:
        is_one = all(isinstance(one, int) for one in references[1:])
        if is_one:
            return references[:1]
    names = []
    for one in references[:_FEW]:
        if isinstance(one, str):
            names.append(one)
        elif isinstance(one, list) and one and isinstance(one[0], str):
            names.append(one[0])
    return names


def _shape(shape) -> list[int | None] | None:
    if not isinstance(shape, list):
        return None
    return [one if isinstance(one, int) else None for one in shape[:_FEW]]


def _tflite(path) -> Description:
    errors.check_installed("ai_edge_litert", extra="export")
    from ai_edge_litert import schema_py_generated as schema

    with open(path, "rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if content[4:8] != b"TFL3":
        raise errors.InputError(f"The model file {path} is no .tflite file.")
    return _Flatbuffer(schema, content).description()


class _Flatbuffer:
    """A `.tflite` file. Its tables are trusted nowhere: a length can be any number."""

    def __init__(self, schema, content):
        self.schema, self.content, self.left = schema, content, 4 * MOST
        self.model = schema.Model.GetRootAs(content, 0)
        self.kinds = {
            value: name
            for name, value in vars(schema.BuiltinOperator).items()
            if isinstance(value, int)
        }
        self.dtypes = {
            value: name.lower()
            for name, value in vars(schema.TensorType).items()
            if isinstance(value, int)
        }

    def rows(self, table, name) -> list:
        """Return the entries of a vector, where there can be so many."""
        length = getattr(table, f"{name}Length")()
        self.left -= length
        if self.left < 0 or 4 * length > len(self.content):
            raise ValueError(f"{length:,} {name} are more than it can hold")
        return [getattr(table, name)(index) for index in range(length)]

    def description(self) -> Description:
        model = self.model
        made = Description("LiteRT (TensorFlow Lite)")
        made.metadata["schema version"] = str(model.Version())
        if model.Description():
            made.written_by = shown(_decoded(model.Description()))
        buffers = self.rows(model, "Buffers")
        for one in self.rows(model, "Metadata"):
            size = self.stored(buffers, one.Buffer(), made.problems)
            if len(made.metadata) < _FEW:
                name = _decoded(one.Name())
                made.metadata[shown(name)] = f"{size:,} bytes"
        codes = [self.code(one) for one in self.rows(model, "OperatorCodes")]
        for name, is_custom in codes:
            if is_custom:
                made.problems.append(f"needs the operator {name} of another program")
        graphs = self.rows(model, "Subgraphs")
        if not graphs:
            raise ValueError("it holds no graph")
        for number, graph in enumerate(graphs):
            self.add(graph, number == 0, codes, buffers, made)
        made.problems = list(dict.fromkeys(made.problems))[:_FEW]
        return made

    def code(self, one) -> tuple[str, bool]:
        """Return the name of a kind of operators, and whether LiteRT lacks it."""
        number = max(one.BuiltinCode(), one.DeprecatedBuiltinCode())
        custom = _decoded(one.CustomCode())
        name = self.kinds.get(number, f"number {number}")
        is_custom = name == "CUSTOM" or number not in self.kinds
        return shown(custom if name == "CUSTOM" and custom else name), is_custom

    def stored(self, buffers, index, problems) -> int:
        """Return the bytes of a buffer that the file has."""
        if not 0 <= index < len(buffers):
            raise ValueError(f"it refers to buffer {index} of {len(buffers)}")
        one = buffers[index]
        size = one.DataLength()
        if one.Offset() > 1:  # Of large models it stands after the tables.
            size = one.Size()
            if one.Offset() + size > len(self.content):
                problems.append(f"has buffer {index} outside of the file")
        if size > len(self.content):
            raise ValueError(f"buffer {index} is larger than the file")
        return size

    def add(self, graph, is_first, codes, buffers, made) -> None:
        """Add the operators of a graph; of the first one, its inputs and outputs."""
        tensors, sizes = [], []
        for one in self.rows(graph, "Tensors"):
            shape = self.rows(one, "ShapeSignature") or self.rows(one, "Shape")
            dtype = self.dtypes.get(one.Type(), "?")
            name = shown(_decoded(one.Name()))
            open_shape = [size if size >= 0 else None for size in shape]
            tensors.append(Tensor(name, open_shape, dtype))
            stored = self.stored(buffers, one.Buffer(), made.problems)
            declared = math.prod(max(size, 0) for size in shape)
            sizes.append(declared if stored else 0)
            bits = _BITS.get(dtype)
            is_short = bits is not None and declared * bits > 8 * stored
            if stored and is_short and one.Sparsity() is None:
                made.problems.append(
                    f"declares the array {name} with {declared * bits // 8:,} bytes, "
                    f"and stores {stored:,}"
                )
        made.parameters += sum(sizes)
        for one in self.rows(graph, "Operators"):
            kind = codes[one.OpcodeIndex()][0]
            taken = [i for i in self.rows(one, "Inputs") if i >= 0]
            given = [i for i in self.rows(one, "Outputs") if i >= 0]
            first = tensors[given[0]] if given else Tensor("")
            weights = sum(sizes[index] for index in taken)
            made.layers.append(Layer(first.name, kind, weights, first.dtype))
        if is_first:
            made.inputs = [tensors[i] for i in self.rows(graph, "Inputs")][:_FEW]
            made.outputs = [tensors[i] for i in self.rows(graph, "Outputs")][:_FEW]


# Bits of an element of LiteRT's types of numbers.
_BITS = {
    **{"float64": 64, "int64": 64, "uint64": 64, "complex64": 64, "complex128": 128},
    **{"float32": 32, "int32": 32, "uint32": 32, "float16": 16, "bfloat16": 16},
    **{"int16": 16, "uint16": 16, "int8": 8, "uint8": 8, "bool": 8},
    **{"int4": 4, "int2": 2},
}


def _decoded(text: bytes | None) -> str:
    return (text or b"").decode("utf-8", "backslashreplace")


def _onnx(path) -> Description:
    errors.check_installed("onnx", extra="export")
    if path.stat().st_size > _LARGEST_ONNX:
        raise errors.InputError(
            f"The model file {path} is larger than an .onnx file can be."
        )
    import onnx

    # The format is named, or a file's suffix would choose it.
    model = onnx.load(path, format="protobuf", load_external_data=False)
    if not model.HasField("graph"):
        raise errors.InputError(f"The model file {path} is no .onnx file: no graph.")
    producer = f"{model.producer_name} {model.producer_version}".strip()
    made = Description("ONNX", written_by=shown(producer) if producer else None)
    about = [("ir version", model.ir_version)]
    about += [
        (f"operators {one.domain or 'ai.onnx'}", one.version)
        for one in model.opset_import
    ]
    about += [
        (name, getattr(model, name))
        for name in ("domain", "model_version", "doc_string")
        if getattr(model, name)
    ]
    about += [(one.key, one.value) for one in model.metadata_props]
    made.metadata = _metadata(about)
    known = {one.name for one in model.graph.initializer}
    made.inputs = [
        _of_value(one) for one in model.graph.input if one.name not in known
    ][:_FEW]
    made.outputs = [_of_value(one) for one in model.graph.output][:_FEW]
    own = {(one.domain, one.name) for one in model.functions}
    for graph in _graphs(model):
        _add_graph(graph, own, made)
    made.problems = list(dict.fromkeys(made.problems))[:_FEW]
    return made


def _graphs(model) -> Iterator:
    """Yield the graph, those inside of its nodes, and functions."""
    waiting = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting += attribute.graphs


def _add_graph(graph, own, made) -> None:
    sizes = {}
    tensors = list(getattr(graph, "initializer", ()))
    tensors += [one.values for one in getattr(graph, "sparse_initializer", ())]
    for node in graph.node:
        tensors += [one.t for one in node.attribute if one.HasField("t")]
    for one in tensors:
        sizes[one.name] = _add_tensor(one, made)
    for node in graph.node:
        if len(made.layers) >= MOST:
            raise ValueError(f"it has more than {MOST:,} nodes")
        name = node.name or next(iter(node.output), "")
        weights = sum(sizes.get(one, 0) for one in node.input)
        made.layers.append(Layer(shown(name), shown(node.op_type), weights))
        if node.domain not in _DOMAINS and (node.domain, node.op_type) not in own:
            kind = shown(f"{node.domain}.{node.op_type}")
            made.problems.append(f"needs the operator {kind} of another program")


def _add_tensor(one, made) -> int:
    """Count the numbers of a tensor, and note what is wrong with it."""
    import onnx

    name = shown(one.name)
    if any(size < 0 for size in one.dims):
        raise ValueError(f"the array {name} has a negative size")
    size = math.prod(one.dims)
    made.parameters += size
    if one.data_location == onnx.TensorProto.EXTERNAL:
        places = [entry.value for entry in one.external_data if entry.key == "location"]
        place = shown(places[0] if places else "")
        leaves = any(map(_leaves, places))
        where = "outside of its folder" if leaves else "of its folder"
        made.problems.append(f"takes the array {name} from the file {place} {where}")
        return size
    stored = len(one.raw_data)
    for values in ("float_data", "int32_data", "int64_data", "double_data"):
        stored += 8 * len(getattr(one, values))
    stored += 8 * (len(one.uint64_data) + len(one.string_data))
    # Two numbers of 4 bits share a byte; four of 2 bits do.
    if size > 4 * stored:
        made.problems.append(
            f"declares the array {name} with {size:,} numbers, and stores {stored:,} "
            "bytes"
        )
    return size


def _leaves(place: str) -> bool:
    """Return whether a path leaves the folder of its file.

    >>> _leaves("weights.bin"), _leaves("../weights.bin"), _leaves("C:\\\\weights.bin")
    (False, True, True)
    """
    parts = place.replace("\\", "/").split("/")
    return ".." in parts or not parts[0] or ":" in parts[0]


def _of_value(one) -> Tensor:
    import onnx

    kind = one.type.tensor_type
    if not one.type.HasField("tensor_type"):
        return Tensor(shown(one.name))
    known = onnx.TensorProto.DataType.values()
    dtype = "?"
    if kind.elem_type in known:
        dtype = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
    shape = None
    if kind.HasField("shape"):
        shape = [
            size.dim_value if size.HasField("dim_value") else None
            for size in kind.shape.dim[:_FEW]
        ]
    return Tensor(shown(one.name), shape, dtype)


# Suffix -> function that describes such a file.
_READERS = {
    ".keras": _keras,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".tflite": _tflite,
    ".onnx": _onnx,
}
