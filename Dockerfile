# A development machine that is reached through pyssh-gateway. Build it with --build-arg GITHUB=<your GitHub login>.
#
# Debian stable, because its own Python (3.13) will do: no second interpreter in the image.
ARG BASE=debian:trixie-slim


# The configuration, in a stage of its own: a missing login is noticed in seconds, not after the packages.
FROM ${BASE} AS config
ARG GITHUB=""
ARG LOGIN_USER=dev
ARG TRUSTED_PROXIES=""
COPY deploy/config.sh /deploy/
RUN sh /deploy/config.sh >/deploy/config.toml


FROM ${BASE} AS builder
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements/build.txt requirements/runtime.txt requirements/
# pip and the build tools stay behind in /build. The environment that they fill, /opt/pyssh-gateway, has no pip of its
# own.
RUN python3 -m venv /build \
    && /build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt \
    && python3 -m venv --without-pip /opt/pyssh-gateway \
    && /build/bin/pip --python /opt/pyssh-gateway/bin/python install --no-cache-dir --no-compile \
        --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY pyssh_gateway/ pyssh_gateway/
# The bytecode is not checked against the sources' timestamps. Otherwise, after a build that sets all timestamps to one
# value (for reproducible layers), every start would compile every file again while somebody waits to log in.
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . \
    && /build/bin/pip --python /opt/pyssh-gateway/bin/python install --no-cache-dir --no-compile --no-deps /wheel/*.whl \
    && /opt/pyssh-gateway/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/pyssh-gateway/lib


FROM ${BASE}
# A machine to work on, not a distribution: editors, shells, git and what remote tools expect to find (VS Code's server
# needs curl, tar, gzip and ps; rsync and git must be on this side too). No compiler: build-essential (283 MB) would
# nearly double the image; ask for it, or for anything else, with --build-arg EXTRA_PACKAGES="build-essential nodejs".
# openssh-client is for git over ssh. No OpenSSH server: the gateway is the server. tzdata is for [idle] schedule.
ARG EXTRA_PACKAGES=""
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        ca-certificates curl git htop iproute2 jq less lsof nano openssh-client procps python3 python3-venv rsync \
        sudo tmux tzdata unzip vim xz-utils zsh $EXTRA_PACKAGES \
    && rm -rf /var/lib/apt/lists/*
ENV LANG=C.UTF-8

# The account of the gateway's network side, and the account that serves connections until they have logged in: no shell,
# no home, no rights.
RUN useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin pyssh-gateway
RUN useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin pyssh-preauth

ARG LOGIN_USER=dev
ARG LOGIN_UID=1000
ARG LOGIN_SHELL=/usr/bin/zsh
COPY deploy/zshrc /etc/skel/.zshrc
COPY deploy/motd /etc/motd
# Sessions take their environment from /etc/environment. The last line makes zsh's completion dump for the zshrc above.
# /data is where the platform mounts the volume: homes (moved there at the first start), host key, log. Without a volume
# all of that is lost with the container.
RUN test -x "$LOGIN_SHELL" \
    || { echo "LOGIN_SHELL=$LOGIN_SHELL is not in this image; add its package to EXTRA_PACKAGES." >&2; exit 1; } \
    && useradd --create-home --uid "$LOGIN_UID" --user-group --shell "$LOGIN_SHELL" "$LOGIN_USER" \
    && printf '%s ALL=(ALL:ALL) NOPASSWD: ALL\n' "$LOGIN_USER" >/etc/sudoers.d/90-login-user \
    && chmod 440 /etc/sudoers.d/90-login-user \
    && visudo --check --quiet \
    && echo LANG=C.UTF-8 >/etc/environment \
    && mkdir /data \
    && su --login --shell /usr/bin/zsh --command 'autoload -Uz compinit && compinit' "$LOGIN_USER"

COPY --from=builder /opt/pyssh-gateway /opt/pyssh-gateway
COPY --from=config /deploy/config.toml /etc/pyssh-gateway/config.toml
# On everybody's PATH: `ssh <host> pyssh-gateway hold 2h`.
RUN ln -s /opt/pyssh-gateway/bin/pyssh-gateway /usr/local/bin/pyssh-gateway

EXPOSE 2222
STOPSIGNAL SIGTERM
CMD ["/opt/pyssh-gateway/bin/pyssh-gateway", "serve"]
