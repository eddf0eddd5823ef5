# Tandem itself: runs pipelines, and serves with its HTTP API by the embedded server. Built from
# the repository's root:
#   docker build -f serving/deploy/tandem.Dockerfile -t tandem/tandem:0.1.0 .
ARG PYTHON_VERSION=3.11
FROM python:${PYTHON_VERSION}-slim-bookworm

ARG UV_VERSION=0.13.9
RUN pip install --no-cache-dir "uv==${UV_VERSION}" \
    && useradd --system --uid 10001 --create-home tandem \
    && install -d -o tandem -g tandem /app /data

USER 10001
WORKDIR /app
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 PATH="/app/.venv/bin:$PATH"

# The dependencies change less often than the code, and are a layer of their own.
COPY --chown=tandem:tandem pyproject.toml uv.lock ./
RUN uv sync --locked --no-dev --no-install-project --no-cache

COPY --chown=tandem:tandem setup.py README.md ./
COPY --chown=tandem:tandem schemas schemas
COPY --chown=tandem:tandem models models
COPY --chown=tandem:tandem serving serving
COPY --chown=tandem:tandem components components
COPY --chown=tandem:tandem pipeline pipeline
RUN uv sync --locked --no-dev --no-cache

# gRPC, REST, HTTP API
EXPOSE 8500 8501 8080
VOLUME /data

HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD ["python", "-c", \
  "import urllib.request as r; r.urlopen('http://localhost:8080/healthz', timeout=4)"]

ENTRYPOINT ["tandem"]
CMD ["serve", "--root", "/data", "--host", "0.0.0.0"]
