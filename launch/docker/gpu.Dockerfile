# GPUs: CUDA comes with the packages, the driver from the host (NVIDIA's container toolkit).
# docker build -f launch/docker/gpu.Dockerfile -t IMAGE . && docker push IMAGE
FROM python:3.12.12-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
WORKDIR /opt/jaxsrl
COPY launch/requirements-gpu.txt launch/
RUN pip install --require-hashes --only-binary :all: -r launch/requirements-gpu.txt
COPY pyproject.toml README.md LICENSE ./
COPY jaxsrl jaxsrl
COPY configs configs
RUN pip install --no-deps --no-build-isolation --editable .
CMD ["jaxsrl", "doctor"]
