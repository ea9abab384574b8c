# CPU image with the viewer. The authors have only linted this file: they have not built or run the image.
#
#     docker build -t st4rtrack .
#     docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" st4rtrack run my.mp4
#     docker run --rm -v "$PWD:/data" -p 127.0.0.1:8080:8080 st4rtrack view my_st4rtrack --host 0.0.0.0
FROM python:3.12-slim
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY st4rtrack st4rtrack
# uv takes the CPU build of PyTorch from PyTorch's own index
RUN pip install --no-cache-dir uv==0.13.9 \
    && uv pip install --system --no-cache --torch-backend cpu --constraint constraints.txt ".[view,glb]" \
    && pip uninstall --yes uv
# caches of any user that `docker run --user` names
ENV HOME=/tmp
WORKDIR /data
USER 65534
ENTRYPOINT ["st4rtrack"]
CMD ["--help"]
