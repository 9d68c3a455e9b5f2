# podwire's image: the agent of a node, and what `podwire install` puts on the node. `make image` builds
# it; docs/installer.md says what is in it, and how another base is pinned.
#
# One base for both stages, so that there is one digest to keep: Debian 12 of 2026-04-06, of all its
# architectures.
ARG BASE=docker.io/library/debian:bookworm-20260406-slim@sha256:4724b8cc51e33e398f0e2e15e18d5ec2851ff0c2280647e1310bc1642182655d

FROM ${BASE} AS build
RUN apt-get update -q \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
        binutils gcc libc6-dev musl-tools python3.11 python3-pip python3-setuptools python3-wheel \
    && rm -rf /var/lib/apt/lists/*
COPY LICENSE README.md pyproject.toml setup.cfg /src/
COPY cni_plugin /src/cni_plugin
COPY ipam /src/ipam
COPY hack /src/hack
RUN PYTHON=python3.11 /src/hack/image/stage.sh /out

FROM ${BASE}
# For nodes where somebody else has set iptables' FORWARD policy to DROP: the one program of others
# that the agent executes. Everything else it says to the kernel itself.
RUN apt-get update -q \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends iptables \
    && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/cache/debconf/*
COPY --from=build /out /
ARG VERSION=unknown
LABEL org.opencontainers.image.title="podwire" \
    org.opencontainers.image.description="A Kubernetes CNI plugin: agent and installer" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}"
# The launcher looks for its Python where a node has it; here it is the image's own.
ENV PODWIRE_PYTHON=/usr/lib/podwire/bin/python3
# No USER: its work on the node is root's. As another user `podwire --version`, validate, plan and
# schema work.
ENTRYPOINT ["/usr/local/bin/podwire"]
CMD ["agent"]
