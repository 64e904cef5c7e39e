# Restores photographs on CPUs:
#   docker build -t hypernet-jax .
#   docker run --rm -v "$PWD:/photographs" hypernet-jax restore photo.jpg -o restored.png
# The page with a slider:
#   docker run --rm -p 127.0.0.1:7860:7860 hypernet-jax serve --host 0.0.0.0
FROM python:3.12-slim
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY constraints/3.12.txt constraints.txt
COPY hypernet_jax hypernet_jax
RUN pip install --no-cache-dir --constraint constraints.txt ".[onnxruntime,heif,jxl,raw,serve]"
# Caches of fonts and compiled programs; whatever user runs it may write there.
ENV HOME=/tmp
USER 1000
WORKDIR /photographs
EXPOSE 7860
ENTRYPOINT ["hypernet-jax"]
CMD ["--help"]
