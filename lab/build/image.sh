# The VM's root file system as one plain cpio: the tools, busybox for the rest, the kernel
# modules and the first process. What a VM never reads is left out.
root=$out/root
mkdir -p "$root"
cp -a "$guest/." "$root/"
cp -a "$modules/lib/modules" "$root/usr/lib/"
rm -rf "$root"/usr/share/{doc,man,locale,lintian,bash-completion,info,menu,perl5,debconf,bug,initramfs-tools} \
	"$root"/usr/lib/x86_64-linux-gnu/{gconv,ossl-modules,engines-3} "$root/usr/lib/systemd"
"$root/usr/bin/busybox" --list | while read -r applet; do
	[ -e "$root/usr/bin/$applet" ] || [ -e "$root/usr/sbin/$applet" ] || ln -s busybox "$root/usr/bin/$applet"
done
# dash, not busybox's shell: that one runs its own ip and tc before it looks at the PATH
ln -sf dash "$root/usr/bin/sh"
mkdir -p "$root"/{lab,share,persist,run,root,etc}
echo root:x:0:0:root:/root:/bin/sh >"$root/etc/passwd"
echo root:x:0: >"$root/etc/group"
echo '127.0.0.1 localhost lab' >"$root/etc/hosts"
install -m 755 "$lab/guest/init" "$root/init"
enter "$kernel" "$out" sh -ec 'cd root && find . | cpio --quiet -o -H newc >../base.cpio'
rm -rf "$root"
ln -s "../$(basename "$modules")/vmlinux" "$out/vmlinux"
ln -s "../$(basename "$qemu")" "$out/qemu"
