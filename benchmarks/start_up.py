"""How long the command line takes to say something, beside importing TensorFlow."""

import functools
import subprocess
import sys

from benchmarks.harness import Benchmark

KERAS_TL = ("-m", "keras_tl")
COMMANDS = {
    "keras-tl --help": (*KERAS_TL, "--help"),
    "keras-tl list": (*KERAS_TL, "list"),
    "keras-tl show quickstart": (*KERAS_TL, "show", "quickstart"),
    "keras-tl cache list": (*KERAS_TL, "cache", "list"),
    "a misspelt recipe": (*KERAS_TL, "run", "quickstrat"),
    "keras-tl run quickstart --help": (*KERAS_TL, "run", "quickstart", "--help"),
    "a misspelt flag": (*KERAS_TL, "run", "quickstart", "--epohs", "3"),
    "import tensorflow": ("-c", "import tensorflow"),
}


def command(*arguments):
    """Run a command in a process of its own."""

    def run():
        subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
        return 1

    return run


BENCHMARKS = {
    "start_up": Benchmark(
        title="From the command to its answer",
        item="command",
        cases={
            name: functools.partial(command, *arguments)
            for name, arguments in COMMANDS.items()
        },
        ours="import tensorflow",
        at_most={name: 0.08 for name in COMMANDS if name != "import tensorflow"},
        ratio="time, as a share of importing TensorFlow",
        limit="`python -c pass`",
        seconds=0,
    )
}
