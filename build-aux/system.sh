# SPDX-License-Identifier: mpich2
# shellcheck shell=bash disable=SC2034
#
# Sourced by the build scripts that depend on the system. Sets
#   system   its name, for messages
#   manager  the package manager that they use, and so which names of build-aux/packages; empty if they know none

IFS='|' read -r system manager <<<"$(
    ID='' ID_LIKE='' PRETTY_NAME='an unknown system'
    # Tests have one of their own.
    file=${OS_RELEASE:-/etc/os-release}
    # shellcheck source=/dev/null
    [ ! -r "$file" ] || . "$file"
    manager=
    for like in $ID $ID_LIKE; do
        case $like in
            debian | ubuntu) manager=apt-get ;;
            fedora) manager=dnf ;;
            suse | opensuse*) manager=zypper ;;
            *) continue ;;
        esac
        ! command -v "$manager" >/dev/null || break
        manager=
    done
    echo "$PRETTY_NAME|$manager"
)"
