# deid in a container: `docker build -t deid .`, then
#
#   docker run --rm --network none --read-only --tmpfs /tmp -u "$(id -u):$(id -g)" -v "$PWD/in:/in:ro" -v "$PWD/out:/out" deid \
#     anonymize --method cleanir /in /out
#
# Nothing is fetched at run time, the root may be read-only, and the user is not root. What pip compiled (*.pyc) stays: a
# root that cannot be written to would have each start compile it again. For a GPU: `--build-arg EXTRAS=gpu,heif`,
# and run it with `--gpus all` (the CUDA libraries come with TensorFlow's wheels; the host brings the driver).
ARG PYTHON=3.12
FROM python:${PYTHON}-slim AS build
ARG EXTRAS=heif
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/deid
WORKDIR /src
COPY . .
RUN /opt/deid/bin/pip install --constraint constraints.txt ".[${EXTRAS}]" \
    && XDG_CACHE_HOME=/opt/deid/cache /opt/deid/bin/deid models fetch

FROM python:${PYTHON}-slim
COPY --from=build /opt/deid /opt/deid
# The weights of other people that `deid models fetch` took lie beside the environment.
ENV PATH=/opt/deid/bin:$PATH XDG_CACHE_HOME=/opt/deid/cache HOME=/tmp PYTHONDONTWRITEBYTECODE=1
RUN useradd --uid 10001 --no-create-home deid && mkdir /in /out && chown deid /out
USER deid
WORKDIR /
ENTRYPOINT ["deid"]
CMD ["--help"]
