"""The names of the files of a generation's artifact, and the most that its ranking tower takes. Copied into Triton's
environment: standard library alone."""

MANIFEST = "manifest.json"
ENCODING = "encoding.json"
ZERO_SHOT = "zero_shot.onnx"
RANKING = "ranking.onnx"
RETRIEVAL = "retrieval.npz"
WEIGHTS = "weights.safetensors"
POPULARITY = "popularity.json"
COUNTS = "counts.npz"
COUNTED = "counted.npz"
FIRST_COUNTS = "first_counts.npz"
PROFILE = "profile.json"
PROBES = "probes.json"
QUESTIONS = "questions.npz"
MAP = "map.json"

MOST_USERS = 64
"""Users of one run of the ranking tower, as its config in Triton says: what a candidate costs grows with them."""
