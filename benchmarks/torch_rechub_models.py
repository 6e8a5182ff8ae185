"""torch-rechub's DIN and its nearest DNN, used as its tutorials use them: features, `DataGenerator`, `CTRTrainer`."""

import tempfile
from typing import Any

import torch
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.models.ranking import DIN, WideDeep
from torch_rechub.trainers import CTRTrainer
from torch_rechub.utils.data import DataGenerator

from benchmarks.peers import Task
from benchmarks.rows import PeerRows
from benchmarks.stopwatch import Stopwatch
from benchmarks.watched import watch_batches
from models.runtime.encoding import PADDING


def train(task: Task, rows: PeerRows, watch: Stopwatch) -> None:
    """One epoch of `CTRTrainer.fit` over `DataGenerator`'s loader, without validation or weight decay."""
    torch.manual_seed(task.seed)
    inputs = {**rows.fields, "item": rows.items, "hist_item": rows.history}
    loader, _, _ = DataGenerator(inputs, rows.labels).generate_dataloader(batch_size=task.batch)
    model = build(task, rows)
    watch_batches(model, task.batch, watch)
    with tempfile.TemporaryDirectory() as folder:  # fit always saves the model
        trainer = CTRTrainer(model, optimizer_params={"lr": task.rate}, n_epoch=1, device="cpu", model_path=folder)
        trainer.fit(loader)


def build(task: Task, rows: PeerRows) -> Any:
    """DIN; or WideDeep with the candidate alone in its wide part and the history summed, which is a DNN but for that.

    Its MLP normalises every layer, as Foretaste's blocks do; the activation of DIN's is the library's.
    """
    fields = [SparseFeature(name, vocab_size=size, embed_dim=task.dimension) for name, size in rows.sizes.items()]
    item = SparseFeature("item", vocab_size=rows.item_count, embed_dim=task.dimension, padding_idx=PADDING)
    pooling = "concat" if task.model == "din" else "sum"
    history = SequenceFeature(
        "hist_item",
        vocab_size=rows.item_count,
        embed_dim=task.dimension,
        pooling=pooling,
        shared_with="item",
        padding_idx=PADDING,
    )
    mlp = {"dims": list(task.hidden), "dropout": task.dropout}
    if task.model == "din":
        return DIN(fields, [history], [item], mlp_params=mlp, attention_mlp_params={"dims": list(task.attention)})
    return WideDeep(wide_features=[item], deep_features=[item, *fields, history], mlp_params=mlp)
