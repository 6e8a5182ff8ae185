"""DeepCTR-Torch's DIN and its nearest DNN, used as its examples use them: feature columns, `compile` and `fit`."""

from typing import Any

import torch
from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat
from deepctr_torch.models import DIN, WDL

from benchmarks.timing import Stopwatch
from benchmarks.training.batch_hook import watch_batches
from benchmarks.training.peer_rows import PeerRows
from benchmarks.training.peers import PeerSettings
from foretaste.kernel.values import MAX_BEHAVIOUR


def train(settings: PeerSettings, rows: PeerRows, watch: Stopwatch) -> None:
    """One epoch of `fit`, without metrics or validation."""
    model = build(settings, rows)
    model.compile(torch.optim.Adam(model.parameters(), lr=settings.rate), "binary_crossentropy", metrics=[])
    watch_batches(model, settings.batch, watch)
    inputs = {**rows.fields, "item": rows.items, "hist_item": rows.history, "seq_length": rows.lengths}
    model.fit(inputs, rows.labels, batch_size=settings.batch, epochs=1, verbose=0)


def build(settings: PeerSettings, rows: PeerRows) -> Any:
    """DIN; or WDL without its wide part and with the history summed, which is a DNN.

    Batch normalisation as Foretaste's blocks have it; no L2 penalty, which would cost time that nobody else spends.
    """
    columns = [SparseFeat(name, size, embedding_dim=settings.dimension) for name, size in rows.sizes.items()]
    columns.append(SparseFeat("item", rows.item_count, embedding_dim=settings.dimension))
    history = SparseFeat("hist_item", rows.item_count, embedding_dim=settings.dimension, embedding_name="item")
    columns.append(VarLenSparseFeat(history, maxlen=MAX_BEHAVIOUR, combiner="sum", length_name="seq_length"))
    widths = {"dnn_hidden_units": settings.hidden, "dnn_dropout": settings.dropout, "dnn_use_bn": True}
    if settings.model == "din":
        return DIN(
            columns, ["item"], att_hidden_size=settings.attention, l2_reg_embedding=0, seed=settings.seed, **widths
        )
    return WDL([], columns, l2_reg_linear=0, l2_reg_embedding=0, seed=settings.seed, **widths)
