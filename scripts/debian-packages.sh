#!/usr/bin/env bash
# As root: installs the Debian packages named as arguments without starting their services. Debian's
# orthanc starts itself on ports 4242 and 8042 when it is installed, where the gateway is to listen.
set -euo pipefail

POLICY=/usr/sbin/policy-rc.d
log=$(mktemp)
own_policy=no

clean_up() {
    [ $own_policy = no ] || rm -f "$POLICY"
    rm -f "$log"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Two installations at once would remove the policy under each other's feet.
exec 9>/run/dicom-gateway-install.lock
flock 9

apt() {
    env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 9>&-
}

running=()
for comm in /proc/[0-9]*/comm; do
    if [ "$(cat "$comm" 2>/dev/null)" = Orthanc ]; then
        process=${comm%/comm}
        running+=("${process#/proc/}")
    fi
done
[ ${#running[@]} -eq 0 ] || echo "An Orthanc runs already (process ${running[*]}); it is left alone."

# invoke-rc.d asks policy-rc.d; 101 means "action not allowed" (Debian Policy 9.3.3.1).
if [ -e "$POLICY" ]; then
    echo "$POLICY exists and is kept: it decides whether services are started."
else
    own_policy=yes
    printf '#!/bin/sh\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
fi

had_orthanc=no
[ -e /lib/systemd/system/orthanc.service ] && had_orthanc=yes

echo "Installing Debian packages: $*"
apt update || echo "apt-get update failed; trying with the package lists that are there." >&2
if ! apt install --no-install-recommends "$@"; then
    tail -n 5 "$log" >&2
    echo "install: apt-get could not install $* (see above)" >&2
    exit 1
fi

# Not started now, and not at the next boot either, or it would take the ports then.
if [ $had_orthanc = no ] && [ -e /lib/systemd/system/orthanc.service ] && command -v systemctl >/dev/null; then
    systemctl disable orthanc >/dev/null 2>&1 &&
        echo "Debian's own Orthanc service is disabled (systemctl enable orthanc brings it back)."
fi
exit 0
