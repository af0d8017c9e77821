# The live app in a container: see docs/howto/serve.md.
#   docker build -t mdfa .
#   docker run --rm -p 127.0.0.1:5006:5006 --read-only --tmpfs /tmp --cap-drop ALL \
#     --security-opt no-new-privileges --memory 6g --pids-limit 256 -v mdfa-data:/data:ro mdfa
# A digest pins the base: --build-arg BASE=python:3.13-slim-bookworm@sha256:...
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
RUN python -m venv /opt/mdfa
WORKDIR /src
# PyTorch without CUDA, in a layer of its own: it is most of the image and seldom changes.
COPY constraints.txt ./
RUN /opt/mdfa/bin/pip install -c constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu \
      "$(grep -oE '^torch==[0-9.]+' constraints.txt)+cpu"
COPY pyproject.toml README.md LICENSE ./
COPY mdfa_core mdfa_core
COPY mdfa_app mdfa_app
COPY app app
COPY notebooks notebooks
RUN /opt/mdfa/bin/pip install -c constraints.txt ".[app]" && /opt/mdfa/bin/pip check

FROM ${BASE}
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin mdfa \
 && install --directory --owner=mdfa --group=mdfa /data
COPY --from=build /opt/mdfa /opt/mdfa
# Data sets are read from /data; a folder that is named is never downloaded into.
ENV PATH=/opt/mdfa/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    MDFA_DATA_DIR=/data XDG_CACHE_HOME=/tmp MPLCONFIGDIR=/tmp
USER mdfa
WORKDIR /data
VOLUME /data
EXPOSE 5006
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5006/liveness', timeout=4)"]
STOPSIGNAL SIGINT
# Inside a container every network is the container's own; `-p 127.0.0.1:5006:5006` decides who reaches it.
ENTRYPOINT ["mdfa", "app", "--address", "0.0.0.0"]
CMD ["--origin", "localhost:5006", "--origin", "127.0.0.1:5006"]
