# TPUs: libtpu comes with the packages.
# docker build -f launch/docker/tpu.Dockerfile -t IMAGE . && docker push IMAGE
FROM python:3.12.12-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
WORKDIR /opt/jaxsrl
COPY launch/requirements-tpu.txt launch/
RUN pip install --require-hashes --only-binary :all: -r launch/requirements-tpu.txt
COPY pyproject.toml README.md LICENSE ./
COPY jaxsrl jaxsrl
COPY configs configs
RUN pip install --no-deps --no-build-isolation --editable .
CMD ["jaxsrl", "doctor"]
