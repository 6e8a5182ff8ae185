"""DeepCTR-Torch's DIN and its nearest DNN, used as its examples use them: feature columns, `compile` and `fit`."""

from typing import Any

import torch
from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat
from deepctr_torch.models import DIN, WDL

from benchmarks.peers import Task
from benchmarks.rows import PeerRows
from benchmarks.stopwatch import Stopwatch
from benchmarks.watched import watch_batches
from foretaste.kernel.values import MAX_BEHAVIOUR


def train(task: Task, rows: PeerRows, watch: Stopwatch) -> None:
    """One epoch of `fit`, without metrics or validation."""
    model = build(task, rows)
    model.compile(torch.optim.Adam(model.parameters(), lr=task.rate), "binary_crossentropy", metrics=[])
    watch_batches(model, task.batch, watch)
    inputs = {**rows.fields, "item": rows.items, "hist_item": rows.history, "seq_length": rows.lengths}
    model.fit(inputs, rows.labels, batch_size=task.batch, epochs=1, verbose=0)


def build(task: Task, rows: PeerRows) -> Any:
    """DIN; or WDL without its wide part and with the history summed, which is a DNN.

    Batch normalisation as Foretaste's blocks have it; no L2 penalty, which would cost time that nobody else spends.
    """
    columns = [SparseFeat(name, size, embedding_dim=task.dimension) for name, size in rows.sizes.items()]
    columns.append(SparseFeat("item", rows.item_count, embedding_dim=task.dimension))
    history = SparseFeat("hist_item", rows.item_count, embedding_dim=task.dimension, embedding_name="item")
    columns.append(VarLenSparseFeat(history, maxlen=MAX_BEHAVIOUR, combiner="sum", length_name="seq_length"))
    widths = {"dnn_hidden_units": task.hidden, "dnn_dropout": task.dropout, "dnn_use_bn": True}
    if task.model == "din":
        return DIN(columns, ["item"], att_hidden_size=task.attention, l2_reg_embedding=0, seed=task.seed, **widths)
    return WDL([], columns, l2_reg_linear=0, l2_reg_embedding=0, seed=task.seed, **widths)
