#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What makes a machine a host of the lab; the Vagrantfile runs it, as root, step by step:
#   prepare KERNEL       packages, and the kernel 6.1 or 6.12, which the next boot starts
#   build HOST           the programs, on nodes
#   join HOST MAC NODES  the host itself, by the device with that MAC address, and its agent
# TREE is where the tree is: /maglane unless the environment says otherwise.
set -euo pipefail
TREE=${TREE:-/maglane}

prepare() { # KERNEL
  local package
  "$TREE/tools/setup" --peers
  case $1 in
    # That of Debian 12 depends on the one with a number.
    6.1) package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-6\.1\..*-amd64\)$/\1/p' | tail -n 1) ;;
    6.12)
      package=$(apt-cache search --names-only '^linux-image-6\.12\.[0-9.]+\+deb12-amd64$' | cut -d' ' -f1 | sort -V | tail -n 1)
      ;;
    *) echo "the kernel is 6.1 or 6.12, not '$1'" >&2 && exit 2 ;;
  esac
  [[ -n $package ]] || { echo "no package with kernel $1: apt-get update, with Debian 12's security suite" >&2 && exit 1; }
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 install --no-install-recommends -y "$package" >/dev/null
  mkdir -p /etc/default/grub.d
  echo "GRUB_DEFAULT=\"Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux ${package#linux-image-}\"" \
    >/etc/default/grub.d/maglane.cfg
  [[ ! -x /usr/sbin/update-grub ]] || update-grub 2>/dev/null
}

build() { # HOST
  [[ $1 != client ]] || return 0
  cd "$TREE"
  cmake --preset release >/dev/null
  cmake --build --preset release --target maglane-agent maglane
}

device_of() { # MAC, six pairs of digits without colons
  local path
  for path in /sys/class/net/*/address; do
    [[ $(tr -d : <"$path") != "$1" ]] || basename "$(dirname "$path")"
  done
}

join() { # HOST MAC NODES
  local device
  device=$(device_of "$2")
  # The host may have it already, under that name.
  if [[ -z $device ]] && ip -n "maglane-$1" link show dev eth0 &>/dev/null; then
    device=eth0
  fi
  [[ -n $device ]] || { echo "no device has the MAC address $2" >&2 && exit 1; }
  "$TREE/tools/lab" join "$1" "$device" --nodes "$3"
  [[ $1 == client ]] || "$TREE/tools/lab" agents up
}

step=${1:-}
case $step:$# in
  prepare:2 | build:2 | join:4) shift && "$step" "$@" ;;
  *) sed -n '4,9s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
