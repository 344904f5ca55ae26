"""Every format that runs can be exported to: size, latency, memory, accuracy, parity.

Each run is exported with the command's own limits; what is refused is listed as such.
Accuracies are those of the exported files on the test split of the run, whose data have
to be where they were.

    python -m benchmarks.exports RUN...          # show, a minute for each run
    python -m benchmarks.exports RUN... --keep   # and write the results
"""

import argparse
import datetime
import tempfile
from pathlib import Path

from benchmarks import harness, pages

NAME = "exports"


def measure(run: Path, format: str, data, folder: Path) -> dict:
    """Export a run, and measure what it gives."""
    from keras_tl import errors
    from keras_tl.analysis import evaluation
    from keras_tl.deploy import export, exported

    try:
        contract = export.export(run, format, folder, data=data)
    except errors.InputError as error:
        return {"format": format, "refused": str(error)}
    dtype = contract["input"]["dtype"]
    logits = exported.run(exported.load(folder), data.test.inputs, dtype)
    result = evaluation.evaluate(data.test.labels, logits, data.class_names)
    compared = contract.get("accuracy", {}).get("comparison")
    return {
        "format": format,
        "megabytes": exported.size(folder) / 1e6,
        **exported.measure(folder),
        "accuracy": result.accuracy,
        "interval": list(result.interval),
        "verdict": compared and compared["verdict"],
        "parity": contract["parity"],
    }


def measure_run(run: Path) -> dict:
    """Export a run in every format."""
    from keras_tl.deploy import artifact, export, run_data

    model = artifact.load(run)
    data = run_data.load(model)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for format in export.FORMATS:
            rows.append(measure(run, format, data, Path(place) / format))
            print(rows[-1], flush=True)
    return {
        "recipe": model.manifest["recipe"],
        "model": model.manifest["model_name"],
        "input": model.manifest["input"]["shape"],
        "test": len(data.test),
        "rows": rows,
    }


def main() -> None:
    """Export the runs; show or keep the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--keep", action="store_true", help="write the results")
    options = parser.parse_args()
    measured = [measure_run(run) for run in options.runs]
    if options.keep:
        record = {"date": datetime.date.today().isoformat()}
        pages.keep(NAME, record | harness.machine() | {"runs": measured})


if __name__ == "__main__":
    main()
