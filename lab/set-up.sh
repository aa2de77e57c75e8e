#!/bin/sh
# Runs in the lab, as root, once after its start: makes it a host that Hearth can be developed and tested on.
#
#   /lab/{checkout,modules,cache,bin}  what the lab was given, read-only disks
#   /srv/hearth                     the checkout and its node_modules, with a layer of its own to write to
#   /srv/cache                      the images, likewise
#   /srv/out                        what is copied to the host when the command has ended
set -eu

modprobe -a kvm_amd vhost_vsock tun nf_tables wireguard 8021q dm_mod overlay

# What is written goes to memory: an overlay cannot lie on another, and the lab's own root is one.
mkdir -p /run/lab /srv/out
mount -t tmpfs -o mode=0755,size=60% lab /run/lab
layer() { # NAME TARGET
  mkdir -p "/run/lab/$1/upper" "/run/lab/$1/work" "$2"
  mount -t overlay -o "lowerdir=/lab/$1,upperdir=/run/lab/$1/upper,workdir=/run/lab/$1/work" "$1" "$2"
}
layer checkout /srv/hearth
layer cache /srv/cache/hearth
mkdir -p /srv/hearth/node_modules
mount --bind /lab/modules /srv/hearth/node_modules

install -m 0755 /lab/bin/firecracker /lab/bin/jailer /usr/local/bin/
ln -sf /srv/hearth/node_modules/node/bin/node /usr/local/bin/node
