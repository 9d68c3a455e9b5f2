# podwire and podwire-ipam in /opt/cni/bin of a slim Python image: for trying them and for building
# on. The image that installs podwire on the nodes of a cluster, and its manifests, come with the
# installer; this one has no entry point of that kind.
FROM python:3.11-slim
COPY setup.cfg pyproject.toml README.md LICENSE /src/
COPY cni_plugin /src/cni_plugin
COPY ipam /src/ipam
RUN python -m venv /opt/podwire \
    && /opt/podwire/bin/pip install --no-cache-dir /src \
    && mkdir -p /opt/cni/bin \
    && ln -s /opt/podwire/bin/podwire /opt/podwire/bin/podwire-ipam /opt/cni/bin/ \
    && rm -rf /src
ENV PATH=/opt/cni/bin:$PATH
CMD ["podwire", "--help"]
