#!/usr/bin/env bash
# See to it that the programs which the tests drive are there: real clients, and sshd to compare with.
# What cannot be installed is named, with the tests that will not work; they are not left out silently.
set -euo pipefail
here=$(dirname "$0")

# program, package, what it is for. The one list of them.
needed='
ssh         openssh-client  everything under tests/clients
ssh-keygen  openssh-client  everything under tests/clients
sftp        openssh-client  file transfers
scp         openssh-client  file transfers
sshd        openssh-server  the comparison with OpenSSH
ps          procps          processes and signals
rsync       rsync           file transfers
tmux        tmux            terminals
vim         vim             terminals
htop        htop            terminals
less        less            terminals
zsh         zsh             login shells
sudo        sudo            login shells
strace      strace          descriptors and system calls
git         git             git over ssh
Xvfb        xvfb            X11 forwarding
xauth       xauth           X11 forwarding
xdpyinfo    x11-utils       X11 forwarding
python3     python3         commands that the tests run in sessions
'

# sshd lives where an ordinary account's PATH does not look.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

missing() {
    local program package users
    while read -r program package users; do
        if [ -n "$program" ] && ! command -v "$program" >/dev/null; then
            printf '%s %s %s\n' "$program" "$package" "$users"
        fi
    done <<<"$needed"
}

lacking=$(missing)
[ -n "$lacking" ] || exit 0

had_sshd=$(command -v sshd || true)
mapfile -t packages < <(awk '{print $2}' <<<"$lacking" | sort -u)
if "$here/apt.sh" "${packages[@]}"; then
    # sshd is here to be compared with, not to serve: nothing has started it (see apt.sh), and nothing shall at the next boot.
    if [ -z "$had_sshd" ] && [ -d /run/systemd/system ]; then
        sudo=$([ "$(id -u)" -eq 0 ] || echo "sudo -n")
        $sudo systemctl disable --quiet ssh.service ssh.socket 2>/dev/null || true
    fi
    lacking=$(missing)
    [ -n "$lacking" ] || exit 0
fi

{
    echo "These programs are missing and could not be installed without asking for a password:"
    while read -r program package users; do
        printf '  %-11s (package %s), for %s\n' "$program" "$package" "$users"
    done <<<"$lacking"
    echo "The tests that drive them will not pass. To install them: sudo apt-get install ${packages[*]}"
} >&2
