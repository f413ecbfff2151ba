# docker build --tag unetpipe .
# docker run --rm --gpus all --shm-size 8g --user $(id -u):$(id -g) --volume "$PWD":/work unetpipe run my
FROM python:3.11-slim

ENV PIP_NO_CACHE_DIR=1 HOME=/tmp NUMBA_CACHE_DIR=/tmp/numba USER=unetpipe
# torch.compile needs a compiler
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/unetpipe
COPY requirements.lock ./
RUN python -m pip install --requirement requirements.lock
COPY pyproject.toml README.md LICENSE Snakefile ./
COPY config config
COPY profiles profiles
COPY workflow workflow
COPY unetpipe unetpipe
RUN python -m pip install --no-deps --no-build-isolation --editable .

WORKDIR /work
ENTRYPOINT ["unetpipe"]
