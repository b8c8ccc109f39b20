# An image of herdgate.
# Made by `herdgate deploy dockerfile`; belongs at Dockerfile.
#
#   docker build -t herdgate .
#   docker run -d -p 7860:7860 --stop-timeout 35 -e HERDGATE_UPSTREAMS=http://gpu1:11434 -v herdgate:/data herdgate
#   docker exec CONTAINER herdgate key create NAME
#
# Nothing but /data is written: --read-only --cap-drop ALL --security-opt no-new-privileges all fit.
# Without --stop-timeout Docker ends requests that run after 10 s, whatever server.grace says.
# Settings: -v ./herdgate.toml:/etc/herdgate/herdgate.toml:ro, or variables (HERDGATE_…).

FROM docker.io/library/rust:1.95.0-slim-bookworm AS build
WORKDIR /src
COPY . .
# The compiler of this image; rust-toolchain.toml would also fetch what only development needs.
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN cargo build --release --locked -p herdgate \
    && install -D -t /out/bin target/release/herdgate \
    && install -d -m 0755 /out/owned /out/etc/herdgate \
    && install -d -m 0700 -o 65532 -g 65532 /out/owned/data

FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="herdgate" org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /out/bin/ /usr/local/bin/
COPY --from=build /out/etc/ /etc/
COPY --from=build --chown=65532:65532 /out/owned/ /
ENV HERDGATE_DATA=/data
VOLUME ["/data"]
USER 65532:65532
# Where herdgate.toml is looked for.
WORKDIR /etc/herdgate
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["/usr/local/bin/herdgate", "health"]
ENTRYPOINT ["/usr/local/bin/herdgate"]
CMD ["serve"]
