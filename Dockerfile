# The image, where there is a container engine. `make image` builds the same one without.
#
#   docker build --build-arg REVISION="$(git rev-parse HEAD)" --tag lameduck .

ARG RUST_VERSION=1.95.0

FROM rust:${RUST_VERSION}-bookworm AS build
WORKDIR /lameduck
COPY . .
RUN image/compile /out/lameduck

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.description="A reverse-proxy sidecar that ends keep-alive connections politely: nothing accepted is lost when a pod turns unready or is deleted" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="https://github.com/lameduck-proxy/lameduck" \
      org.opencontainers.image.title="lameduck" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /out/lameduck /lameduck
# So that `kubectl exec` finds `lameduck status`.
ENV PATH=/
WORKDIR /
# Numeric, because kubelet's runAsNonRoot can't look a name up.
USER 65532:65532
EXPOSE 15800 15801
ENTRYPOINT ["/lameduck"]
