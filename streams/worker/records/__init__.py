"""Records that no client reads as they are: header names of any bytes, damaged ones, unknown codecs."""
