"""torch-rechub's DIN and its nearest DNN, used as its tutorials use them: features, `DataGenerator`, `CTRTrainer`."""

import tempfile
from typing import Any

import torch
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.models.ranking import DIN, WideDeep
from torch_rechub.trainers import CTRTrainer
from torch_rechub.utils.data import DataGenerator

from benchmarks.timing import Stopwatch
from benchmarks.training.batch_hook import watch_batches
from benchmarks.training.peer_rows import PeerRows
from benchmarks.training.peers import PeerSettings
from models.runtime.encoding import PADDING


def train(settings: PeerSettings, rows: PeerRows, watch: Stopwatch) -> None:
    """One epoch of `CTRTrainer.fit` over `DataGenerator`'s loader, without validation or weight decay."""
    torch.manual_seed(settings.seed)
    inputs = {**rows.fields, "item": rows.items, "hist_item": rows.history}
    loader, _, _ = DataGenerator(inputs, rows.labels).generate_dataloader(batch_size=settings.batch)
    model = build(settings, rows)
    watch_batches(model, settings.batch, watch)
    with tempfile.TemporaryDirectory() as folder:  # fit always saves the model
        trainer = CTRTrainer(model, optimizer_params={"lr": settings.rate}, n_epoch=1, device="cpu", model_path=folder)
        trainer.fit(loader)


def build(settings: PeerSettings, rows: PeerRows) -> Any:
    """DIN; or WideDeep with the candidate alone in its wide part and the history summed, which is a DNN but for that.

    Its MLP normalises every layer, as Foretaste's blocks do; the activation of DIN's is the library's.
    """
    fields = [SparseFeature(name, vocab_size=size, embed_dim=settings.dimension) for name, size in rows.sizes.items()]
    item = SparseFeature("item", vocab_size=rows.item_count, embed_dim=settings.dimension, padding_idx=PADDING)
    pooling = "concat" if settings.model == "din" else "sum"
    history = SequenceFeature(
        "hist_item",
        vocab_size=rows.item_count,
        embed_dim=settings.dimension,
        pooling=pooling,
        shared_with="item",
        padding_idx=PADDING,
    )
    mlp = {"dims": list(settings.hidden), "dropout": settings.dropout}
    if settings.model == "din":
        return DIN(fields, [history], [item], mlp_params=mlp, attention_mlp_params={"dims": list(settings.attention)})
    return WideDeep(wide_features=[item], deep_features=[item, *fields, history], mlp_params=mlp)
