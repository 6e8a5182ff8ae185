# One file, three images: `app` (workers, ranking service, setup), `trainer` (adds torch), `triton` (adds ONNX Runtime
# and faiss, for the CPU or, by the build argument ONNXRUNTIME, for a GPU).
# Dependencies come before the sources, so that a changed line rebuilds seconds, not minutes.
ARG PYTHON_IMAGE=python:3.11-slim
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:25.08-py3

FROM ${PYTHON_IMAGE} AS dependencies
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore FORETASTE_HOME=/var/lib/foretaste
RUN useradd --uid 10001 --create-home foretaste && install -d -o foretaste -g foretaste /var/lib/foretaste /models
WORKDIR /src
COPY constraints.txt pyproject.toml README.md ./
RUN for package in foretaste streams features models serving triton_repo; do \
      mkdir $package && touch $package/__init__.py; done \
 && pip install --quiet -c constraints.txt .

FROM dependencies AS training-dependencies
RUN pip install --quiet -c constraints.txt ".[train]"

FROM dependencies AS app
COPY . .
RUN pip install --quiet --no-deps --force-reinstall .
USER foretaste
WORKDIR /var/lib/foretaste
VOLUME ["/var/lib/foretaste", "/models"]
ENTRYPOINT ["foretaste"]

FROM training-dependencies AS trainer
COPY . .
RUN pip install --quiet --no-deps --force-reinstall .
USER foretaste
WORKDIR /var/lib/foretaste
VOLUME ["/var/lib/foretaste", "/models"]
ENTRYPOINT ["foretaste"]

FROM ${TRITON_IMAGE} AS triton
ARG ONNXRUNTIME=onnxruntime
# numpy's threads spin while they wait for each other.
ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore OPENBLAS_NUM_THREADS=1
COPY foretaste/stack/triton-constraints.txt /tmp/constraints.txt
# numpy 2 in the Python backend's environment corrupts tensors silently: it is held below 2, as in the embedded stack.
# The constraints name the CPU's ONNX Runtime; the GPU's has versions of its own and brings one in its name.
RUN pip install --quiet --no-cache-dir -c /tmp/constraints.txt "${ONNXRUNTIME}" faiss-cpu "numpy<2" \
 && (id triton-server >/dev/null 2>&1 || useradd --uid 1000 triton-server)
USER triton-server
