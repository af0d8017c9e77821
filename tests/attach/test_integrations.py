from __future__ import annotations

import builtins
import csv
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mdfa_core.attach import TensorBoard, attach, measure
from mdfa_core.base.errors import InvalidValue, MdfaError
from tests.attach.nets import ATTACHABLE, matrices, mlp

LOSS = nn.BCEWithLogitsLoss()

needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="needs the package tensorboard"
)
needs_lightning = pytest.mark.skipif(
    importlib.util.find_spec("lightning") is None, reason="needs the package lightning"
)
# What these packages say about themselves, their neighbours and this machine is not this project's business.
pytestmark = pytest.mark.filterwarnings("ignore")


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(8, 4), torch.rand(8, 1).round()


@needs_tensorboard
def test_a_plain_loop_writes_what_tensorboard_reads(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    attached = attach(mlp(), "dfa")
    x, y = batch()
    optimizer = torch.optim.SGD(attached.parameters(), 0.1)
    expected = {}
    with TensorBoard(tmp_path, LOSS, every=2, examples=None) as board:
        for step in range(5):
            found = board(attached, (x, y))
            if found is not None:
                expected[step] = found
                assert found == measure(attached, (x, y), LOSS)
            optimizer.zero_grad()
            LOSS(attached(x), y).backward()
            optimizer.step()

    assert list(expected) == [0, 2, 4]
    log = EventAccumulator(str(tmp_path)).Reload()
    assert set(log.Tags()["scalars"]) == set(expected[0].scalars())
    for name in log.Tags()["scalars"]:
        written = {event.step: event.value for event in log.Scalars(name)}
        assert written == pytest.approx({step: found.scalars()[name] for step, found in expected.items()})


@needs_tensorboard
@pytest.mark.parametrize("every", [0, 1.5, True])
def test_a_number_of_steps_that_is_none_is_refused(every: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="give the number of steps between measurements, at least 1"):
        TensorBoard(tmp_path, LOSS, every=every)


@pytest.mark.parametrize("package", ["tensorboard", "lightning"])
def test_a_missing_package_is_named_in_a_sentence(
    package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original = builtins.__import__

    def without(name: str, *rest: Any, **settings: Any) -> Any:
        if name.split(".")[0] == package or name.startswith(f"torch.utils.{package}"):
            raise ImportError(name)
        return original(name, *rest, **settings)

    for module in [name for name in sys.modules if name.startswith(("mdfa_core.attach.lightning", "torch.utils.tens"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", without)
    uses = {
        "tensorboard": lambda: TensorBoard(tmp_path, LOSS),
        "lightning": lambda: importlib.import_module("mdfa_core.attach.lightning"),
    }
    with pytest.raises(MdfaError, match=rf"needs the package {package}: run pip install 'mdfa-lab\[integrations\]'"):
        uses[package]()


@needs_lightning
@pytest.mark.parametrize("method", ATTACHABLE)
def test_lightning_trains_and_logs(method: str, tmp_path: Path) -> None:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.loggers import CSVLogger

    from mdfa_core.attach.lightning import LogMeasurement

    class Classifier(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = attach(mlp(), method)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch["pair"]
            return LOSS(self.net(x), y)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.5)

    torch.manual_seed(1)
    x, y = torch.randn(32, 4), torch.rand(32, 1).round()
    module = Classifier()
    reference = attach(mlp(), method)
    reference.model.load_state_dict(module.net.model.state_dict())
    with pytest.raises(InvalidValue, match="give the number of steps"):
        LogMeasurement(LOSS, every=0)
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[LogMeasurement(LOSS, every=3, pair=lambda batch: batch["pair"])],
        logger=CSVLogger(tmp_path),
        log_every_n_steps=1,
        accumulate_grad_batches=2,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    loader = DataLoader(
        TensorDataset(x, y), 8, collate_fn=lambda items: {"pair": tuple(map(torch.stack, zip(*items, strict=True)))}
    )
    trainer.fit(module, loader)

    optimizer = torch.optim.SGD(reference.parameters(), 0.5)
    for number in range(8):
        part = slice(8 * (number % 4), 8 * (number % 4) + 8)
        (LOSS(reference(x[part]), y[part]) / 2).backward()
        if number % 2:
            optimizer.step()
            optimizer.zero_grad()
    for ours, plain in zip(module.net.model.parameters(), reference.model.parameters(), strict=True):
        assert torch.allclose(ours, plain, atol=1e-6)
    if method == "mdfa":
        assert min(weight.min() for weight in matrices(module)[1:]) >= 0
    logged = (Path(trainer.logger.log_dir) / "metrics.csv").read_text().splitlines()
    assert {"unit/overall", "example/overall", "batch/overall", "angle/overall", "norm_ratio/0"} <= set(
        logged[0].split(",")
    )
    assert len(logged) > 2


@needs_lightning
@pytest.mark.parametrize(
    ("batches", "epochs", "every", "accumulate", "steps"),
    [
        (8, 3, 10, 1, [0, 10, 20]),
        (3, 2, 100, 1, [0]),
        (8, 1, 3, 2, [0, 1, 3]),  # batches 0, 3 and 6: after 0, 1 and 3 steps
        (8, 1, 1, 4, [0, 1]),  # the batches of one step have the same weights
    ],
)
def test_lightning_logs_every_measurement_once_at_its_own_step(
    batches: int,
    epochs: int,
    every: int,
    accumulate: int,
    steps: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.loggers import CSVLogger

    from mdfa_core.attach import lightning as callbacks

    class Regression(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = attach(mlp(), "dfa")

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = LOSS(self.net(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.5)

    made: list[float] = []

    def counted(*args: Any, **settings: Any) -> Any:
        found = measure(*args, **settings)
        made.append(found.angle_overall[0])
        return found

    monkeypatch.setattr(callbacks, "measure", counted)
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        accumulate_grad_batches=accumulate,
        callbacks=[callbacks.LogMeasurement(LOSS, every=every)],
        logger=CSVLogger(tmp_path),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    x, y = torch.randn(2 * batches, 4), torch.rand(2 * batches, 1).round()
    trainer.fit(Regression(), DataLoader(TensorDataset(x, y), 2))

    with (Path(trainer.logger.log_dir) / "metrics.csv").open() as file:
        rows = [(int(row["step"]), float(row["angle/overall"])) for row in csv.DictReader(file) if row["angle/overall"]]
    assert rows == list(zip(steps, made, strict=True))
    assert trainer.callback_metrics["angle/overall"] == pytest.approx(made[-1])
