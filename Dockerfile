# slipstream with torch for CPUs, or with --build-arg TORCH=cu130 for CUDA 13.0:
#
#   docker build -t slipstream .
#   docker run --rm -v "$PWD/outputs:/slipstream/outputs" slipstream
#   docker run --rm -v "$PWD/outputs:/slipstream/outputs" slipstream python train.py data=iris optimizer=sgd
#   docker build -t slipstream-cuda --build-arg TORCH=cu130 . && docker run --rm --gpus all slipstream-cuda
#   docker build -t slipstream-test --target test . && docker run --rm slipstream-test
#
# scripts/check_dockerfile.py runs these steps without Docker.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim AS base
ARG TORCH=cpu
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/${TORCH} PIP_NO_CACHE_DIR=1
# g++ compiles what sweeps train together.
RUN apt-get update && apt-get install -y --no-install-recommends g++ git && rm -rf /var/lib/apt/lists/*
WORKDIR /slipstream
COPY . .
RUN pip install -c constraints.txt -e .

FROM base AS test
RUN pip install -c constraints.txt -e '.[test]'
CMD ["pytest", "-m", "not exhaustive"]

FROM base
CMD ["python", "train.py"]
