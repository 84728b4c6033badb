# syntax=docker/dockerfile:1
#
#   docker build -t rudder-customerio .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges --stop-timeout 60 \
#     -p 8080:8080 -v rudder-customerio:/var/lib/rudder-customerio \
#     -v ./config.yaml:/etc/rudder-customerio/config.yaml:ro \
#     -e CUSTOMERIO_SITE_ID -e CUSTOMERIO_API_KEY -e WRITE_KEY rudder-customerio
#
# In config.yaml: `listen: 0.0.0.0:8080`, so that the port can be published. `data_dir` may stay ./data:
# the working directory is the volume, and nothing else is written.

# The version of rust-toolchain.toml.
FROM rust:1.95.0-bookworm AS build
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin rudder-customerio \
    && cp target/release/rudder-customerio /rudder-customerio \
    && mkdir /state

# glibc, libgcc, and root certificates; no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /rudder-customerio /usr/local/bin/rudder-customerio
COPY --from=build --chown=65532:65532 --chmod=0700 /state /var/lib/rudder-customerio
USER 65532:65532
WORKDIR /var/lib/rudder-customerio
VOLUME /var/lib/rudder-customerio
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["rudder-customerio", "health", "-c", "/etc/rudder-customerio/config.yaml"]
ENTRYPOINT ["rudder-customerio"]
CMD ["run", "-c", "/etc/rudder-customerio/config.yaml"]
