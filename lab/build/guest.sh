# The tools inside the VM. They come from sid: its ethtool answers --json for nearly every
# group, and the tests compare nictune with it field by field.
unpack sid "$out" busybox-static dash ethtool iproute2 pciutils pci.ids e2fsprogs irqbalance
