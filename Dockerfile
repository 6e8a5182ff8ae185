# One file, three images: `app` (workers, ranking service, setup), `trainer` (adds torch), `triton` (adds ONNX Runtime).
ARG PYTHON_IMAGE=python:3.11-slim
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:25.08-py3

FROM ${PYTHON_IMAGE} AS app
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 FORETASTE_HOME=/var/lib/foretaste
RUN useradd --uid 10001 --create-home foretaste && install -d -o foretaste -g foretaste /var/lib/foretaste /models
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY foretaste foretaste
COPY streams streams
COPY features features
COPY models models
COPY serving serving
COPY triton_repo triton_repo
RUN pip install --quiet --root-user-action=ignore -c constraints.txt .
USER foretaste
WORKDIR /var/lib/foretaste
VOLUME ["/var/lib/foretaste", "/models"]
ENTRYPOINT ["foretaste"]

FROM app AS trainer
USER root
RUN pip install --quiet --root-user-action=ignore -c /src/constraints.txt "/src[train]"
USER foretaste

FROM ${TRITON_IMAGE} AS triton
COPY foretaste/stack/triton-constraints.txt /tmp/constraints.txt
# numpy 2 in the Python backend's environment corrupts tensors silently: it is held below 2, as in the embedded stack.
RUN pip install --quiet --no-cache-dir --root-user-action=ignore -c /tmp/constraints.txt onnxruntime "numpy<2" \
 && (id triton-server >/dev/null 2>&1 || useradd --uid 1000 triton-server)
USER triton-server
