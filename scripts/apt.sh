#!/usr/bin/env bash
# Install Debian or Ubuntu packages if that is possible without asking anybody: as root, or with sudo that needs no
# password. Exit 1 if that is not possible, or failed. The caller says what the packages are for.
set -euo pipefail

command -v apt-get >/dev/null || exit 1
become=()
if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || exit 1
    become=(sudo -n)
fi

# A package that starts a daemon when it is installed (openssh-server does) must not do so behind the developer's back.
# This is Debian's way to say so; a policy that the machine already has stays as it is.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '"${become[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${become[@]}" tee "$policy" >/dev/null
    "${become[@]}" chmod 755 "$policy"
fi

apt_get() {
    # Wait for the lock: another apt (a machine's first boot, unattended upgrades) may be at work.
    "${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get --quiet=2 --yes --option DPkg::Lock::Timeout=120 \
        --option Dpkg::Use-Pty=0 "$@" </dev/null >/dev/null
}

echo "Installing $* with apt-get." >&2
# A machine that has never fetched its package lists can't find anything; one with old lists finds versions that are gone.
apt_get update || true
apt_get install --no-install-recommends "$@"
