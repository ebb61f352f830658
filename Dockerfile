# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
# What librdkafka is built with.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ libssl-dev make pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
# The image's own toolchain: rust-toolchain.toml would add rustfmt and clippy.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin user-otp \
    && cp target/release/user-otp /usr/local/bin/

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 user-otp
COPY --from=build /usr/local/bin/user-otp /usr/local/bin/user-otp
# By number, so that Kubernetes sees that it is not root (runAsNonRoot).
USER 10001
# The platform's port, and that of metrics and health.
EXPOSE 8090 9464
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s CMD ["user-otp", "health"]
ENTRYPOINT ["user-otp"]
CMD ["run"]
