"""The job files of docs/how_to: what they start, and the cluster they describe."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from keras_tl import cli, cluster

FOLDER = Path(__file__).parents[1] / "docs" / "how_to"
SLURM = FOLDER / "slurm.sh"
# `keras-tl` that writes down what it was called with.
PROGRAM = """#!/bin/bash
printf '%s\\n' "$TF_CONFIG" "$@" > "called-${SLURM_NODEID:-$JOB_COMPLETION_INDEX}"
exit "${STATUS:-0}"
"""
# Slurm's commands: two nodes; `srun` starts a task on each, and returns the largest
# status; what is put into the queue again is written down.
SCONTROL = """#!/bin/bash
case "$1 $2" in
  "show hostnames") printf 'node7\\nnode9\\n' ;;
  *) echo "$@" > scontrol ;;
esac
"""
SRUN = """#!/bin/bash
largest=0
for SLURM_NODEID in 0 1; do
  export SLURM_NODEID
  "$@"
  status=$?
  [ "$status" -gt "$largest" ] && largest=$status
done
exit "$largest"
"""


@pytest.fixture
def run(tmp_path):
    """Function that runs a script where these programs are; returns its status."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("keras-tl", PROGRAM), ("scontrol", SCONTROL), ("srun", SRUN)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)

    def run_script(command, **variables):
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            command,
            cwd=tmp_path,
            env={"PATH": path, **variables},
            check=False,
        ).returncode

    return run_script


def called(folder, rank, monkeypatch):
    """Return the cluster, and the options of the recipe, of a call of `keras-tl`."""
    config, *words = (folder / f"called-{rank}").read_text().splitlines()
    monkeypatch.setenv("TF_CONFIG", config)
    assert words[0] == "run"
    return cluster.from_environment(), words[1:]


def slurm(run, **variables):
    job = {"SLURM_JOB_ID": "12345", "SLURM_JOB_NODELIST": "node[7,9]"}
    return run(["bash", SLURM], **job, **variables)


def test_the_slurm_job_is_a_script_of_bash():
    subprocess.run(["bash", "-n", SLURM], check=True)


def test_the_slurm_job_describes_its_nodes_to_each_worker(run, tmp_path, monkeypatch):
    assert slurm(run) == 0
    for rank in (0, 1):
        described, words = called(tmp_path, rank, monkeypatch)
        assert described == cluster.Cluster(("node7:22345", "node9:22345"), rank)
        assert words == ["quickstart", "--batch-size", "64", "--out", "runs/job-12345"]
        monkeypatch.chdir(tmp_path)
        cli.recipe_settings(cli.recipe_path(words[0]), words[1:])
    assert not (tmp_path / "scontrol").exists()


def test_the_slurm_job_is_queued_again_where_a_worker_was_lost(
    run, tmp_path, monkeypatch
):
    assert slurm(run, STATUS="75", SLURM_RESTART_COUNT="5") == 75
    assert slurm(run, STATUS="2") == 2
    assert not (tmp_path / "scontrol").exists()
    assert slurm(run, STATUS="75") == 75
    assert (tmp_path / "scontrol").read_text() == "requeue 12345\n"
    (tmp_path / "runs" / "job-12345" / "state").mkdir(parents=True)
    assert slurm(run) == 0
    for rank in (0, 1):
        _, words = called(tmp_path, rank, monkeypatch)
        assert words == ["quickstart", "--resume", "runs/job-12345"]


@pytest.fixture(scope="module")
def kubernetes():
    """Return the service and the job."""
    return list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()))


def test_the_kubernetes_job_has_as_many_pods_as_workers(kubernetes):
    service, job = kubernetes
    assert (service["kind"], job["kind"]) == ("Service", "Job")
    spec = job["spec"]
    (worker,) = spec["template"]["spec"]["containers"]
    variables = {one["name"]: one["value"] for one in worker["env"]}
    assert spec["completions"] == spec["parallelism"] == int(variables["WORKERS"])
    # What Kubernetes wants of a policy for exit statuses.
    assert spec["completionMode"] == "Indexed"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    refused = spec["podFailurePolicy"]["rules"][0]
    assert refused["action"] == "FailJob"
    assert refused["onExitCodes"]["values"] == [2]
    assert refused["onExitCodes"]["containerName"] == worker["name"]
    # The names of the pods are those of the service's domain.
    assert spec["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}


def test_the_kubernetes_job_describes_its_pods_and_goes_on(
    kubernetes, run, tmp_path, monkeypatch
):
    _, job = kubernetes
    (worker,) = job["spec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one["value"] for one in worker["env"]}

    def start(rank):
        index = {"JOB_COMPLETION_INDEX": str(rank)}
        return run(worker["command"], **variables, **index)

    monkeypatch.chdir(tmp_path)
    addresses = ("keras-tl-0.keras-tl:2222", "keras-tl-1.keras-tl:2222")
    for rank in (0, 1):
        assert start(rank) == 0
        described, words = called(tmp_path, rank, monkeypatch)
        assert described == cluster.Cluster(addresses, rank)
        assert words == ["quickstart", "--batch-size", "64", "--out", "runs/first"]
        cli.recipe_settings(cli.recipe_path(words[0]), words[1:])
    (tmp_path / "runs" / "first" / "state").mkdir(parents=True)
    assert start(1) == 0
    assert called(tmp_path, 1, monkeypatch)[1] == [
        "quickstart",
        "--resume",
        "runs/first",
    ]
    (tmp_path / "called-1").unlink()
    (tmp_path / "runs" / "first" / "manifest.json").touch()
    assert start(1) == 0
    assert not (tmp_path / "called-1").exists()
