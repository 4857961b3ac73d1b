# jcs-ct in a container: the page for readers by default, every other command by its name. Research use only.
#
#   make wheel && docker build -t jcs-ct .
#
# Runs as a user without rights; the root file system may be read-only (docs/how-to/container.md).
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
# torch without CUDA; for a GPU: --build-arg INSTALL="uv pip install --torch-backend auto"
ARG INSTALL="uv pip install --no-cache --torch-backend cpu"
ARG EXTRAS=service,pacs,openvino
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
ENV VIRTUAL_ENV=/opt/jcs PATH=/opt/jcs/bin:$PATH
# hadolint ignore=DL3013
RUN python3 -m venv /opt/jcs && pip install --no-cache-dir uv
COPY dist/jcs_ct-*.whl /tmp/wheel/
RUN wheel=$(ls /tmp/wheel/*.whl) \
    && ${INSTALL} "jcs-ct[${EXTRAS}] @ file://${wheel}" \
    && pip uninstall --yes uv \
    && jcs --version

FROM ${BASE}
LABEL org.opencontainers.image.title="jcs-ct" \
      org.opencontainers.image.description="Chest CT reading for COVID-19 opacifications. Research use only, not a medical device." \
      org.opencontainers.image.licenses="Apache-2.0"
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /data jcs \
    && install -d -o jcs -g jcs -m 0750 /data
COPY --from=build /opt/jcs /opt/jcs
# What is written at run time goes to the volume or to /tmp: caches, too.
ENV PATH=/opt/jcs/bin:$PATH HOME=/data XDG_CACHE_HOME=/data/.cache MPLCONFIGDIR=/tmp/matplotlib PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=8)"]
ENTRYPOINT ["jcs"]
CMD ["serve", "--folder", "/data/studies", "--host", "0.0.0.0"]
