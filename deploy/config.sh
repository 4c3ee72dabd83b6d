#!/bin/sh
# Print the configuration of the image: who may log in, from LOGIN_USER and GITHUB, and where the state is; with
# TRUSTED_PROXIES also which proxies' headers are trusted, once listen.proxy_protocol is switched on.
# There is no default login: an image that lets nobody in is a mistake, and an image that lets in a stranger a worse one.
set -eu

fail() {
    echo "$*" >&2
    exit 1
}

[ -n "${GITHUB:-}" ] || fail "Nobody could log in to this image: pass --build-arg GITHUB=<your GitHub login>."
case $GITHUB in
# A '#' and a number after the login pins the account's numeric id.
*[!A-Za-z0-9_#-]*) fail "GITHUB=$GITHUB is not a GitHub login: letters, digits and dashes, as in github.com/<login>." ;;
esac
case ${LOGIN_USER:-} in
"" | root) fail "LOGIN_USER must name an ordinary account; it gets sudo. It is '${LOGIN_USER:-}'." ;;
[!a-z_]* | *[!a-z0-9_-]*) fail "LOGIN_USER=$LOGIN_USER is not a name for an account: lower case letters, digits, - and _." ;;
esac
case ${TRUSTED_PROXIES:-} in
*[!0-9a-fA-F.:/,]*)
    fail "TRUSTED_PROXIES=$TRUSTED_PROXIES is not a list of networks such as 172.16.0.0/12, with commas between them."
    ;;
esac

cat <<EOF
# Written when the image was built. To change a value without building again, set an environment variable named after
# it: PYSSH_GATEWAY_IDLE__TIMEOUT=5m for \`timeout\` in \`[idle]\`.

# On the volume: a host key that is lost with the root file system is one that every client warns about.
keys_dir = "/data/keys"
audit_dir = "/data/audit"

[boot]
# There as well, and made at the first start with what the image put into the home: what is at home is kept.
homes = "/data/home"
EOF
if [ -n "${TRUSTED_PROXIES:-}" ]; then
    cat <<EOF

[listen]
# Only the environment switches this on: PYSSH_GATEWAY_LISTEN__PROXY_PROTOCOL=v2, where such a proxy is in front.
trusted_proxies = ["$(printf '%s' "$TRUSTED_PROXIES" | sed 's/,/", "/g')"]
EOF
fi
cat <<EOF

[[login]]
user = "$LOGIN_USER"
keys = ["github:$GITHUB"]
EOF
