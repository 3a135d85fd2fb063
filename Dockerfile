# syntax=docker/dockerfile:1
# The service on the official Ray image of the version that pyproject.toml pins. Two flavours:
#   docker build --build-arg FLAVOUR=cpu  --tag birefnet-serve:0.1.0-cpu  .
#   docker build --build-arg FLAVOUR=cuda --tag birefnet-serve:0.1.0-cuda .
# torch's default wheels bring CUDA along, which the CPU flavour never uses: --build-arg TORCH_INDEX=URL, the package
# index of torch's CPU builds, saves gigabytes.

ARG RAY_VERSION=2.60.0
ARG FLAVOUR=cpu

FROM rayproject/ray:${RAY_VERSION}-py311-cpu AS ray-cpu

# "gpu" is Ray's alias of one of its CUDA tags. Which CUDA it carries does not matter: torch has its own libraries,
# and only the driver comes from the node.
FROM rayproject/ray:${RAY_VERSION}-py311-gpu AS ray-cuda


# A change of the code builds this stage and the last layers of the next one; the dependencies stay.
FROM ray-cpu AS wheel
RUN mkdir /home/ray/source
WORKDIR /home/ray/source
COPY --chown=1000:100 pyproject.toml README.md LICENSE NOTICE ./
COPY --chown=1000:100 serve_app serve_app
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /home/ray/dist .


# A stage of this file, not an image without a tag.
# hadolint ignore=DL3006
FROM ray-${FLAVOUR} AS service
ARG RAY_VERSION
ARG TORCH_INDEX=""

USER 0
RUN install --directory --owner=1000 --group=100 /app /data
# Ray's user, as a number: `runAsNonRoot` cannot judge a name.
USER 1000
WORKDIR /app

COPY --chown=1000:100 pyproject.toml ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
        > /tmp/requirements.txt \
    && pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} --requirement /tmp/requirements.txt \
    && rm /tmp/requirements.txt pyproject.toml

COPY --from=wheel /home/ray/dist /tmp/dist
RUN pip install --no-cache-dir --no-deps /tmp/dist/*.whl
COPY --chown=1000:100 config config

# Read by every Ray process when it starts; the same as RAY_ENVIRONMENT in serve_app/local/service.py. RAY_AUTH_MODE is set by
# whoever starts Ray: `birefnet-serve up` (token, a new one for each run) or KubeRay (token).
ENV RAY_USAGE_STATS_ENABLED=0 \
    RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S=1 \
    RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S=1 \
    RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S=1 \
    RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S=2
# Downloaded checkpoints, beside the job table and the artifacts: mount something that lasts at /data. The data directory
# itself is no variable here: it would win over the `data_dir` of a profile.
ENV HF_HOME=/data/hub

# An image that cannot even wire its application is not worth shipping. Needs no GPU.
RUN python -c "import av, ray, torch, transformers; from serve_app.app import build; \
from serve_app.settings import Settings; build(Settings()); assert ray.__version__ == '${RAY_VERSION}', ray.__version__"

EXPOSE 8000 8001
# For plain `docker run`; Kubernetes ignores it and KubeRay brings probes of its own.
HEALTHCHECK --interval=30s --timeout=5s --start-period=3m \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
# KubeRay replaces it by `ray start`.
CMD ["birefnet-serve", "up", "--config", "/app/config/local.yaml", "--data-dir", "/data"]
