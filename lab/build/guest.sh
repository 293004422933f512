# The tools inside the VM. They come from sid: its ethtool answers --json for nearly every
# group, and the tests compare nictune with it field by field.
unpack sid "$out" busybox-static dash ethtool iproute2 pciutils pci.ids e2fsprogs irqbalance
# Of the names of PCI devices those that the VMs have (TI, VMware, QEMU and virtio, Intel), and all classes: each nictune
# there reads the file as a whole, which takes an emulated CPU a while.
awk '/^[0-9a-fC]/ { keep = /^(104c|15ad|1234|1af4|1b36|8086|C [0-9a-f]+) / } keep' "$out/usr/share/misc/pci.ids" >"$out/pci.ids"
mv "$out/pci.ids" "$out/usr/share/misc/pci.ids"
