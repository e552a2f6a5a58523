# One image for every service; the command chooses which. Build: docker build -t bowerbird .
#   docker run bowerbird                       all services in one process
#   docker run bowerbird services.embedder     one of them
FROM python:3.11-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --wheel-dir /wheels .

FROM python:3.11-slim-bookworm
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels bowerbird \
    && useradd --uid 65532 --create-home bowerbird && mkdir /data && chown 65532 /data
USER 65532
WORKDIR /data
VOLUME /data
# The container's own network namespace is the boundary: set TLS and tokens before the port leaves the cluster.
ENV BOWERBIRD_SERVER_HOST=0.0.0.0 BOWERBIRD_RETRIEVAL_DATA_DIR=/data OMP_WAIT_POLICY=passive PYTHONUNBUFFERED=1
EXPOSE 50051 9090
ENTRYPOINT ["python", "-m"]
CMD ["services"]
