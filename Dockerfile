# Two images from one build:
#   docker build -t runpod-emulator .                      with the runpod SDK: handlers run in processes
#   docker build -t runpod-emulator:slim --target slim .   the emulator alone: inline and external workers

FROM python:3.12-slim AS builder

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY emulator ./emulator
RUN pip wheel --quiet --no-deps --wheel-dir /dist .
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --quiet /dist/*.whl


FROM builder AS builder-sdk

RUN pip --python /opt/venv/bin/python install --quiet "$(echo /dist/*.whl)[sdk]"


FROM builder AS builder-s3

RUN pip --python /opt/venv/bin/python install --quiet "$(echo /dist/*.whl)[s3]"


FROM python:3.12-slim AS base

# The emulator runs other people's handlers: leave nothing here that installs, and no rights.
RUN pip uninstall --yes --quiet --root-user-action=ignore pip
# For images that want the emulator beside their own packages: docs/docker.md.
COPY --from=builder /dist /dist
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    # Who reaches it is decided by the port mapping; what workers run cannot be set over HTTP.
    EMULATOR_HOST=0.0.0.0 \
    EMULATOR_INSECURE=true \
    EMULATOR_PORT=8000

ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="runpod-emulator" \
      org.opencontainers.image.description="A local, offline emulator of the Runpod Serverless endpoint API" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT"

# Where a volume for the state may be mounted: it takes over who may write to it.
RUN install -d -o 10001 -g 10001 /state

WORKDIR /app
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# No --start-interval: engines before 25 refuse it.
HEALTHCHECK --interval=3s --timeout=10s --start-period=30s --retries=3 \
    CMD ["runpod-emulator", "healthcheck"]
ENTRYPOINT ["runpod-emulator"]
CMD ["serve"]


FROM base AS slim

COPY --from=builder /opt/venv /opt/venv
# A script that imports runpod cannot run in a process of its own here; inline, a stand-in is there for it.
ENV EMULATOR_WORKER_KIND=inline


# The local S3 store alone, for docker-compose.s3.yml.
FROM base AS s3

COPY --from=builder-s3 /opt/venv /opt/venv
EXPOSE 9000
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m", "emulator.s3.server", "--host", "0.0.0.0"]
CMD []


FROM base AS sdk

COPY --from=builder-sdk /opt/venv /opt/venv
