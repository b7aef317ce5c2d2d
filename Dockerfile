# The command line and the worker. Build outputs stay in the server; the image holds no data.
FROM python:3.13-slim
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY distcache distcache
COPY lua lua
RUN pip install --no-cache-dir '.[cli]' && useradd --create-home distcache
USER distcache
WORKDIR /home/distcache
ENTRYPOINT ["distcache"]
CMD ["--help"]
