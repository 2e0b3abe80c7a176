# GANvas in a container. This file has not been built where it was written.
#   CPU:  docker build -t ganvas .
#   CUDA: docker build -t ganvas --build-arg BASE=pytorch/pytorch:2.10.0-cuda12.8-cudnn9-runtime .
#   run:  docker run --rm -it -v "$PWD:/work" [--gpus all --shm-size 2g] ganvas train --model cycle_gan --dataroot demo
ARG BASE=python:3.12-slim
FROM ${BASE}
WORKDIR /opt/ganvas
COPY requirements.txt ./
COPY scripts/setup/install_torch.py scripts/setup/
RUN python scripts/setup/install_torch.py && pip install --no-cache-dir -r requirements.txt
COPY . .
RUN pip install --no-cache-dir --no-deps .
WORKDIR /work
ENTRYPOINT ["ganvas"]
CMD ["list"]
