# One image for every service; the argument chooses which.
#   docker build -t bowerbird:0.1.0 .                        models run on the processor
#   docker build -t bowerbird:0.1.0-gpu --target gpu .       models can run on CUDA
#   docker run -p 127.0.0.1:50051:50051 -v bowerbird:/data --stop-timeout 90 bowerbird:0.1.0      all services, one process
#   docker run ... bowerbird:0.1.0 services.embedder         one of them
FROM python:3.11-slim-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --wheel-dir /wheels .

FROM python:3.11-slim-bookworm AS runtime
# The versions are those of the wheels that the first stage made.
# hadolint ignore=DL3013
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels bowerbird \
    && groupadd --gid 65532 bowerbird && useradd --uid 65532 --gid 65532 --create-home bowerbird \
    && mkdir /data && chown 65532:65532 /data
USER 65532:65532
WORKDIR /data
VOLUME /data
# The container's own network namespace is the boundary: set TLS and tokens before the port leaves the cluster.
ENV BOWERBIRD_SERVER_HOST=0.0.0.0 BOWERBIRD_RETRIEVAL_DATA_DIR=/data OMP_WAIT_POLICY=passive PYTHONUNBUFFERED=1
EXPOSE 50051 9090
# -P: a folder called `services` on the volume is not ours.
ENTRYPOINT ["python", "-P", "-m"]
CMD ["services"]

# The same with the CUDA build of ONNX Runtime in place of the other. CUDA comes as wheels, the driver (580 or newer)
# from the node.
FROM runtime AS gpu
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
USER 0:0
RUN pip uninstall --yes onnxruntime \
    && pip install --no-cache-dir "onnxruntime-gpu[cuda,cudnn]==1.31.*" \
    && find / -xdev -path '*/site-packages/nvidia/*.so*' -printf '%h\n' | sort -u > /etc/ld.so.conf.d/cuda-wheels.conf \
    && ldconfig
ENV BOWERBIRD_MODELS_PROVIDER=cuda
USER 65532:65532

# The last stage is what a build without --target gives.
FROM runtime
