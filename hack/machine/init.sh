#!/bin/busybox sh
# shellcheck shell=dash
# The first program of the machine: finds the disk and goes on there.
busybox=/bin/busybox
$busybox mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do $busybox insmod "$module"; done
tries=0
while [ ! -e /dev/vdb ] && [ $tries -lt 100 ]; do
    $busybox sleep 0.1
    tries=$((tries + 1))
done
$busybox mount -t ext4 /dev/vda /root || $busybox poweroff -f
$busybox umount /dev
exec $busybox switch_root /root /bin/sh /guest.sh
