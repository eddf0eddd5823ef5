# TensorFlow Serving with ScaNN's ops linked in: loads `recommender` as well.
#   docker build -f tf-serving-scann.Dockerfile -t tandem/tf-serving-scann:2.20.0 .
# It follows google-research/scann/tf_serving, whose own image ends at TensorFlow 2.11, with the
# versions of uv.lock. Compiling TensorFlow takes hours and some 16 GB of memory; the CPUs that run
# it need AVX2 and FMA.
ARG TF_SERVING_VERSION=2.20.0
FROM tensorflow/serving:${TF_SERVING_VERSION}-devel AS build

# The commit of google-research whose scann/pyproject.toml says this version.
ARG SCANN_VERSION=1.4.2
ARG SCANN_COMMIT=634a79fb5b4b23237a81eac028d27b5d34a5dba4
ARG HIGHWAY_VERSION=1.3.0
ARG CNPY_COMMIT=57184ee0db37cac383fc29175950747a46a8b512

SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /tensorflow-serving

RUN mkdir -p third_party/scann third_party/highway third_party/cnpy \
    && curl -fsSL --retry 5 \
       "https://github.com/google-research/google-research/archive/${SCANN_COMMIT}.tar.gz" \
       | tar -xz --strip-components=2 -C third_party/scann \
         "google-research-${SCANN_COMMIT}/scann" \
    && curl -fsSL --retry 5 \
       "https://github.com/google/highway/archive/refs/tags/${HIGHWAY_VERSION}.tar.gz" \
       | tar -xz --strip-components=1 -C third_party/highway \
    && curl -fsSL --retry 5 "https://github.com/sammymax/cnpy/archive/${CNPY_COMMIT}.tar.gz" \
       | tar -xz --strip-components=1 -C third_party/cnpy \
    && grep -qx "version = \"${SCANN_VERSION}\"" third_party/scann/pyproject.toml

COPY link_scann.py /tmp/
RUN python3 /tmp/link_scann.py .

ARG TF_SERVING_BUILD_OPTIONS="--config=release --copt=-mavx2 --copt=-mfma"
RUN bazel build --verbose_failures --output_filter=DONT_MATCH_ANYTHING \
      ${TF_SERVING_BUILD_OPTIONS} \
      tensorflow_serving/model_servers:tensorflow_model_server \
    && cp bazel-bin/tensorflow_serving/model_servers/tensorflow_model_server /usr/local/bin/ \
    && bazel clean --expunge

FROM ubuntu:22.04
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 tandem
COPY --from=build /usr/local/bin/tensorflow_model_server /usr/local/bin/
COPY models.config monitoring.config batching.config /etc/tandem/
USER 10001

# gRPC, REST
EXPOSE 8500 8501

ENTRYPOINT ["tensorflow_model_server", "--port=8500", "--rest_api_port=8501"]
CMD ["--model_config_file=/etc/tandem/models.config", \
     "--monitoring_config_file=/etc/tandem/monitoring.config"]
