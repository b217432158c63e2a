# Two images, for the CPU and for NVIDIA GPUs:
#   docker build --target cpu --build-arg COMMIT=$(git rev-parse --short=12 HEAD) -t rlvr .
#   docker build --target cuda --build-arg COMMIT=$(git rev-parse --short=12 HEAD) -t rlvr:cuda .
# Run a training whose results stay in ./runs and belong to you:
#   docker run --rm -it --user "$(id -u):$(id -g)" -v "$PWD:/work" rlvr train
#   docker run --rm -it --user "$(id -u):$(id -g)" -v "$PWD:/work" -v ~/.cache:/cache --gpus all rlvr:cuda \
#       train --model OWNER/NAME --example pi1
# The driver on the host must support CUDA 13.0 (release 580 or later).

FROM rust:1.95-slim-bookworm AS toolchain

FROM toolchain AS build-cpu
ARG COMMIT
WORKDIR /source
COPY . .
# Each image has its own cache for compiled code: programs that the build of one image compiles and runs need that image's C library.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,id=rlvr-target-cpu,target=/source/target \
    RLVR_COMMIT=$COMMIT cargo build --release --locked && cp target/release/rlvr /usr/local/bin/rlvr

FROM nvidia/cuda:13.0.1-devel-ubuntu24.04 AS build-cuda
ARG COMMIT
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates build-essential \
    && rm -rf /var/lib/apt/lists/*
COPY --from=toolchain /usr/local/rustup /usr/local/rustup
COPY --from=toolchain /usr/local/cargo /usr/local/cargo
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:$PATH
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,id=rlvr-target-cuda,target=/source/target \
    RLVR_COMMIT=$COMMIT cargo build --release --locked --features cuda && cp target/release/rlvr /usr/local/bin/rlvr

FROM nvidia/cuda:13.0.1-runtime-ubuntu24.04 AS cuda
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && mkdir --mode 1777 /cache
COPY --from=build-cuda /usr/local/bin/rlvr /usr/local/bin/rlvr
ENV XDG_CACHE_HOME=/cache HF_HOME=/cache/huggingface
WORKDIR /work
ENTRYPOINT ["rlvr"]
CMD ["--help"]

FROM debian:bookworm-slim AS cpu
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && mkdir --mode 1777 /cache
COPY --from=build-cpu /usr/local/bin/rlvr /usr/local/bin/rlvr
ENV XDG_CACHE_HOME=/cache HF_HOME=/cache/huggingface
WORKDIR /work
ENTRYPOINT ["rlvr"]
CMD ["--help"]
