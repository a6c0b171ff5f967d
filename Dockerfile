# docker build -t featcache .
# docker run --rm -v "$PWD/cache:/work/cache" -v "$PWD/reports:/work/reports" featcache demo

FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY featcache featcache
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim AS install
WORKDIR /source
COPY requirements.lock ./
COPY --from=build /wheels /wheels
# Extras: docker build --build-arg EXTRAS='[serve,dicom]' .
ARG EXTRAS=""
RUN python -m venv /opt/featcache \
    && /opt/featcache/bin/pip install --no-cache-dir --constraint requirements.lock \
        "$(echo /wheels/*.whl)${EXTRAS}"

FROM python:3.13-slim
COPY --from=install /opt/featcache /opt/featcache
ENV PATH=/opt/featcache/bin:$PATH
RUN useradd --create-home --uid 1000 featcache \
    && mkdir -p /work/cache /work/reports \
    && chown -R featcache /work
USER 1000
WORKDIR /work
VOLUME ["/work/cache", "/work/reports"]
ENTRYPOINT ["featcache"]
CMD ["--help"]
