# What the build steps do with Debian packages: unpack them, and enter the result as a chroot.
# Sourced by build.sh. A change here rebuilds everything.

# unpack SUITE ROOT PACKAGE... puts the packages and all they depend on under ROOT. No
# maintainer script runs: nothing of the lab is ever installed on the machine itself.
unpack() {
	local suite=$1 root=$2 d list; shift 2
	say "fetching from $suite: $*"
	debian "$suite" apt-get -qq -y --download-only install "$@" >&2
	list=$(debian "$suite" apt-get -qq -y -o Dir::Cache::archives="$cache/apt/$suite/parts" --print-uris install "$@" | awk '{print $2}')
	merged "$root"
	for d in $list; do only "$root" "$cache/debs/$d"; done
}

# unpack_only SUITE ROOT PACKAGE... is unpack without the dependencies.
unpack_only() {
	local suite=$1 root=$2 p; shift 2
	merged "$root"
	for p in "$@"; do
		say "fetching from $suite: $p"
		(cd "$cache/debs" && debian "$suite" apt-get -qq download "$p" >&2)
		only "$root" "$(ls -t "$cache/debs/${p}"_*.deb | head -n1)"
	done
}

only() { dpkg-deb --fsys-tarfile "$2" | tar -xf - -C "$1" --keep-directory-symlink; }

# merged makes ROOT a tree with Debian's merged /usr before anything is unpacked in it.
merged() {
	local d
	mkdir -p "$1"/{proc,sys,dev,tmp,mnt}
	for d in bin sbin lib lib64; do
		mkdir -p "$1/usr/$d"
		[ -e "$1/$d" ] || ln -s "usr/$d" "$1/$d"
	done
}

# enter ROOT DIR COMMAND... runs a command in the tree ROOT, with DIR as its working
# directory /mnt. Without root it asks the kernel for a user namespace.
enter() {
	local root=$1 dir=$2 user=; shift 2
	[ "$(id -u)" = 0 ] || user=-r
	unshare $user -m true || die "cannot enter a chroot: this needs root with CAP_SYS_ADMIN, or user namespaces (on Ubuntu 24.04 and newer: sysctl kernel.apparmor_restrict_unprivileged_userns=0)"
	unshare $user -m sh -ec '
		root=$1; dir=$2; shift 2
		mount --rbind /dev "$root/dev"; mount --rbind /proc "$root/proc"; mount --bind "$dir" "$root/mnt"
		exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin LC_ALL=C sh -c "cd /mnt && exec \"\$@\"" sh "$@"' sh "$root" "$dir" "$@"
}
