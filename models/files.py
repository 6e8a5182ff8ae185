"""The names of the files of a generation's artifact. Copied into Triton's environment: standard library alone."""

MANIFEST = "manifest.json"
ENCODING = "encoding.json"
ZERO_SHOT = "zero_shot.onnx"
RANKING = "ranking.onnx"
WEIGHTS = "weights.safetensors"
POPULARITY = "popularity.json"
