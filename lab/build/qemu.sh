# QEMU with what it needs. It runs from here by its own dynamic loader, so that neither the
# host's C library nor its QEMU (which may be too old to have igb) matters.
unpack trixie "$out" qemu-system-x86
