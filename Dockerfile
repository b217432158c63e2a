# Two images, for the CPU and for NVIDIA GPUs:
#   docker build --target cpu --build-arg COMMIT=$(git rev-parse --short=12 HEAD) -t rlvr .
#   docker build --target cuda --build-arg COMMIT=$(git rev-parse --short=12 HEAD) -t rlvr:cuda .
# Run a training whose results stay in ./runs:
#   docker run --rm -it -v "$PWD:/work" rlvr train
#   docker run --rm -it --gpus all -v "$PWD:/work" -v ~/.cache:/root/.cache rlvr:cuda train --model OWNER/NAME --example pi1
# The driver on the host must support CUDA 13.0 (release 580 or later).

FROM rust:1.95-slim-bookworm AS build-cpu
ARG COMMIT
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/source/target \
    RLVR_COMMIT=$COMMIT cargo build --release --locked && cp target/release/rlvr /usr/local/bin/rlvr

FROM nvidia/cuda:13.0.1-devel-ubuntu24.04 AS build-cuda
ARG COMMIT
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl build-essential \
    && rm -rf /var/lib/apt/lists/*
# The same toolchain as in the image for the CPU.
COPY --from=build-cpu /usr/local/rustup /usr/local/rustup
COPY --from=build-cpu /usr/local/cargo /usr/local/cargo
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:$PATH
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/source/target \
    RLVR_COMMIT=$COMMIT cargo build --release --locked --features cuda && cp target/release/rlvr /usr/local/bin/rlvr

FROM nvidia/cuda:13.0.1-runtime-ubuntu24.04 AS cuda
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build-cuda /usr/local/bin/rlvr /usr/local/bin/rlvr
WORKDIR /work
ENTRYPOINT ["rlvr"]
CMD ["--help"]

FROM debian:bookworm-slim AS cpu
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build-cpu /usr/local/bin/rlvr /usr/local/bin/rlvr
WORKDIR /work
ENTRYPOINT ["rlvr"]
CMD ["--help"]
