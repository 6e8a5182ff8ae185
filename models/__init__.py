"""Models: data sets, the two towers, co-training, evaluation, export, publishing and the served form."""
