"""Importing this module keeps TensorFlow's start-up messages off the screen.

Import it before Keras, as the command line and the recipes do. Nothing heavy is loaded
here: TensorFlow is imported when something needs it. Errors stay visible. Ctrl-C in the
meantime ends the program without a traceback.

To see the messages, set TF_CPP_MIN_LOG_LEVEL=0.
"""

import contextlib
import importlib.abc
import os
import subprocess
import sys
import time

# When the program began: this is the first module that the command line loads.
STARTED = time.perf_counter()

# Runs in a process of its own, which also prints what is left when TensorFlow aborts,
# as it does on a processor that it was not built for.
FILTER = """
import re, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
noise = re.compile(
    rb"[IW]\\d{4} |WARNING: All log messages before absl|To enable the following instr"
    rb"|E\\d{4} .*(Unable to register|cuInit)|INFO: Created TensorFlow Lite"
)
for line in sys.stdin.buffer:
    if not noise.match(line):
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
"""


@contextlib.contextmanager
def start_up():
    """Leave out TensorFlow's messages about the machine from standard error.

    They come from C++, before any of TensorFlow's own settings holds.
    """
    with contextlib.ExitStack() as stack:
        try:
            screen = os.dup(2)
            stack.callback(os.close, screen)
            command = [sys.executable, "-I", "-S", "-c", FILTER]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=screen)
        except (OSError, ValueError):
            # There is no standard error, or no second process: all is shown.
            yield
            return
        stack.callback(_wait, process)
        os.dup2(process.stdin.fileno(), 2)
        stack.callback(os.dup2, screen, 2)
        yield


def _wait(process):
    process.stdin.close()
    # Something that TensorFlow started may hold the other end.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)


class QuietFinder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow as Python does, and has it loaded within `start_up`."""

    def find_spec(self, name, path=None, target=None):
        if name != "tensorflow":
            return None
        # It stays: whoever asks whether TensorFlow is installed loads nothing yet.
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_quietly(module):
                with start_up():
                    load(module)

            spec.loader.exec_module = load_quietly
        return spec


def _interrupted(kind, error, traceback):
    """Show an error; of Ctrl-C while Keras is loading, not where it was just then."""
    if issubclass(kind, KeyboardInterrupt):
        print("\ninterrupted.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


if sys.excepthook is sys.__excepthook__:
    sys.excepthook = _interrupted
# 2 leaves out warnings; messages of level 3 are about GPUs that a machine may not have.
if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") in ("2", "3"):
    sys.meta_path.insert(0, QuietFinder())
