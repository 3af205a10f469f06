#!/usr/bin/env bash
# Install those of the named Debian packages that are missing, without starting any daemon they bring.
# Does nothing when all are there. Needs root or passwordless sudo; says so in one sentence otherwise.
set -euo pipefail

missing=()
for package in "$@"; do
    if [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
        missing+=("$package")
    fi
done
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    echo "Missing ${missing[*]}: this machine has no apt-get, install what corresponds to these Debian packages." >&2
    exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=(env)
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root=(sudo -n env)
else
    echo "Missing ${missing[*]}: run \`apt-get install ${missing[*]}\` as root, then try again." >&2
    exit 1
fi

# The packages' scripts ask this program whether they may start their daemon; 101 is "no".
# Whatever stood there comes back afterwards.
policy=/usr/sbin/policy-rc.d
saved=$(mktemp -u "$policy.XXXXXX")
if [ -e "$policy" ]; then
    "${as_root[@]}" mv "$policy" "$saved"
fi
restore() {
    "${as_root[@]}" rm -f "$policy"
    if [ -e "$saved" ]; then
        "${as_root[@]}" mv "$saved" "$policy"
    fi
}
trap restore EXIT
printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
"${as_root[@]}" chmod 755 "$policy"

echo "Installing ${missing[*]} ..."
"${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get update --quiet --quiet
"${as_root[@]}" DEBIAN_FRONTEND=noninteractive \
    apt-get install --quiet --quiet --yes --no-install-recommends "${missing[@]}"
