"""The fit of attribute effects by gradient, over what was seen alone: at any size, and on a GPU."""
