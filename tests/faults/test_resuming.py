"""Changed data, stale best weights, and what a device lacks: D19, K11, E2, E9."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import slipstream
from ondisk import STEPS, at_step, bytes_of, newest, terminate, train_in
from slipstream.config import validate
from slipstream.core.errors import ConfigError, UserError
from slipstream.runs import checkpoints, setup
from slipstream.runs.session import run

TABLE = (
    *("data=table", "data.target=y", "data.batch_size=12", "model.width=5", "model.depth=1", "logger=none"),
    *("trainer.max_epochs=3", "trainer.compile=false", "trainer.checkpoint_seconds=0", "trainer.threads=1"),
    *("trainer.progress=none", "trainer.device=cpu"),
)


def table(path, changed=0.0):
    """A CSV file of 40 rows; one value is moved."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(40, 2))
    rows = [f"{a},{b},{int(a + b > 0)}" for a, b in x]
    rows[7] = f"{x[7, 0] + changed},{x[7, 1]},{int(x[7].sum() > 0)}"
    path.write_text("\n".join(["a,b,y", *rows]) + "\n")


def start(config, directory, *, resume):
    """The run of a table, stopped in its second epoch where it begins."""
    if resume:
        return run(config, directory, resume=True)
    with at_step(STEPS + 1, terminate):
        return run(config, directory)


@pytest.mark.slow
def test_d19_changed_data_are_refused_unless_allowed(tmp_path):
    """D19: one number of the file changed between start and resume: refused with exit code 2, nothing is
    touched; an explicit override goes on; with the old file the bytes are those of an undisturbed run."""
    path = tmp_path / "t.csv"
    table(path)
    config = validate(slipstream.compose(*TABLE, f"data.path={path}"))
    run(config, tmp_path / "whole")
    directory = tmp_path / "run"
    start(config, directory, resume=False)
    before = bytes_of(directory)
    table(path, changed=1e-6)
    with pytest.raises(UserError, match="data") as error:
        start(config, directory, resume=True)
    assert error.value.exit_code == 2
    assert "trainer.allow_changed_data" in str(error.value)
    assert bytes_of(directory) == before

    table(path)
    start(config, directory, resume=True)
    assert bytes_of(directory) == bytes_of(tmp_path / "whole")

    other = tmp_path / "other"
    start(config, other, resume=False)
    table(path, changed=1e-6)
    allowed = validate(slipstream.compose(*TABLE, f"data.path={path}", "trainer.allow_changed_data=true"))
    assert start(allowed, other, resume=True).status == "finished"


@pytest.mark.slow
def test_k11_the_best_weights_belong_to_the_checkpoint_they_lie_in(tmp_path):
    """K11: after a fall-back to an older checkpoint the best epoch is one that it knows, and the best weights
    are that epoch's: no file beside the checkpoints could be newer or older."""
    directory = tmp_path / "run"
    with at_step(2 * STEPS + 1, terminate):
        train_in(directory)
    late = newest(directory)
    (late / "best.safetensors").write_bytes(b"")
    tensors, state = checkpoints.load(checkpoints.latest(directory / "checkpoints")[0])
    assert state["best_epoch"] <= state["epoch"] == 2
    best = state["records"][state["best_epoch"] - 1]
    assert best["val/loss"] == min(record["val/loss"] for record in state["records"])
    if state["best_epoch"] == state["epoch"]:
        assert all(torch.equal(tensors["best"][name], tensors["weights"][name]) for name in tensors["best"])
    train_in(directory, resume=True)
    train_in(tmp_path / "whole")
    assert bytes_of(directory) == bytes_of(tmp_path / "whole")
    assert not list(directory.glob("best*"))


@pytest.mark.slow
def test_e2_a_driver_that_torch_cannot_use_is_no_cuda(tmp_path, monkeypatch):
    """E2: with a driver too old torch warns and finds no device: cuda is refused with what to choose, and
    auto trains on the processor."""

    def too_old():
        # torch's own words for it; CUDA itself cannot be had here.
        return False

    monkeypatch.setattr(torch.cuda, "is_available", too_old)
    with pytest.raises(ConfigError, match=r"no usable CUDA device; use trainer\.device=auto or cpu"):
        train_in(tmp_path / "cuda", {"trainer.device": "cuda"})
    train_in(tmp_path / "auto", {"trainer.device": "auto"})
    assert json.loads((tmp_path / "auto" / "summary.json").read_text())["device"] == "cpu"


def test_e9_an_operation_without_a_deterministic_kernel_is_named(monkeypatch):
    """E9: in the mode that CUDA runs train in, such an operation warns with its name and goes on."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.backends.cudnn.benchmark, torch.utils.deterministic.fill_uninitialized_memory
    setup.prefer_deterministic_kernels()
    try:
        assert torch.are_deterministic_algorithms_enabled()
        with pytest.warns(UserWarning, match="put_ does not have a deterministic implementation"):
            torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark, torch.utils.deterministic.fill_uninitialized_memory = before
