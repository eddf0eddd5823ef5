# Stock TensorFlow Serving on a GPU, told what it can load of a release: `recommender_exact`.
#   docker build -f tf-serving-gpu.Dockerfile -t tandem/tf-serving-gpu:2.20.0 .
# The version is uv.lock's: a server should not be older than the TensorFlow that wrote a model.
ARG TF_SERVING_VERSION=2.20.0
FROM tensorflow/serving:${TF_SERVING_VERSION}-gpu

COPY models.stock.config monitoring.config batching.config /etc/tandem/

# gRPC, REST
EXPOSE 8500 8501

# Without it TensorFlow takes all of the GPU's memory at once.
ENV TF_FORCE_GPU_ALLOW_GROWTH=true

ENTRYPOINT ["tensorflow_model_server", "--port=8500", "--rest_api_port=8501"]
CMD ["--model_config_file=/etc/tandem/models.stock.config", \
     "--monitoring_config_file=/etc/tandem/monitoring.config"]
