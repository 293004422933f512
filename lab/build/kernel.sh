# A Debian kernel with its modules, its headers, the compiler it was built with, and the
# sources of the drivers that Debian leaves out. LAB_KERNEL is the suite that they come from.
suite=${LAB_KERNEL:-trixie}
unpack $suite "$out" linux-headers-amd64 linux-source make kmod cpio zstd xz-utils dash coreutils findutils sed grep mawk tar binutils
for tool in sh:dash awk:mawk; do ln -sf "${tool#*:}" "$out/usr/bin/${tool%:*}"; done

kver=$(basename "$out"/usr/src/linux-headers-*-amd64 | sed 's/^linux-headers-//')
# Since Linux 7 the package of the image names two others that hold it.
parts=$(debian "$suite" apt-cache depends "linux-image-$kver" | sed -n "s/.*Depends: \(linux-\(binary\|modules\)-$kver\)$/\1/p")
unpack_only $suite "$out" ${parts:-"linux-image-$kver"}
echo "$kver" >"$out/kver"

mkdir "$out/drivers"
enter "$out" "$out/drivers" sh -c 'tar -xf /usr/src/linux-source-*.tar.xz --strip-components=2 --wildcards "*/drivers/net/netdevsim" "*/drivers/ptp/ptp_mock.c"'
rm "$out"/usr/src/linux-source-*.tar.xz
