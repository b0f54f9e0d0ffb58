#!/bin/busybox sh
# The first process of a machine that tests a kernel. Debian's busybox prefers its own applets: each is called by name.
export PATH=/bin
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t bpf bpf /sys/fs/bpf
$b mount -t tmpfs run /run
$b mount -t tmpfs tmp /tmp
# Before Linux 5.11 BPF memory counts against this limit; the service has it in its unit.
ulimit -l unlimited
for module in $($b cat /modules/order); do
    $b insmod /modules/$module || echo "cannot load $module"
done
read -r up idle </proc/uptime
echo "init: up after $up s"
/bin/guest
echo "guest: exit code $?"
$b poweroff -f
