# A Debian kernel with its modules, its headers, the compiler it was built with, and the
# sources of the drivers that Debian leaves out. A second kernel is a second suite here.
suite=trixie
unpack $suite "$out" linux-headers-amd64 linux-source make kmod cpio zstd xz-utils dash coreutils findutils sed grep mawk tar binutils
for tool in sh:dash awk:mawk; do ln -sf "${tool#*:}" "$out/usr/bin/${tool%:*}"; done

kver=$(basename "$out"/usr/src/linux-headers-*-amd64 | sed 's/^linux-headers-//')
unpack_only $suite "$out" "linux-image-$kver"
echo "$kver" >"$out/kver"

mkdir "$out/drivers"
enter "$out" "$out/drivers" sh -c 'tar -xf /usr/src/linux-source-*.tar.xz --strip-components=2 --wildcards "*/drivers/net/netdevsim" "*/drivers/ptp/ptp_mock.c"'
rm "$out"/usr/src/linux-source-*.tar.xz
