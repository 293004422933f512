# Shared by the build steps: Debian packages without touching the machine's own apt, and a
# chroot to use them in. Sourced by build.sh; $cache is the cache folder.

die() { echo "lab: $*" >&2; exit 1; }
say() { echo "lab: $*" >&2; }

# mirror prints the Debian mirror to download from: LAB_MIRROR, the one this machine's apt
# uses, or (on Ubuntu, which has none) the default that its own debootstrap package carries.
mirror() {
	local m=${LAB_MIRROR:-}
	[ -n "$m" ] || m=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 2>/dev/null | sed '/security/d' | head -n1)
	[ -n "$m" ] || m=$(in_package debootstrap ./usr/share/debootstrap/scripts/sid | sed -n 's/^ *default_mirror \(.*\)/\1/p' | head -n1)
	[ -n "$m" ] || die "no Debian mirror known: set LAB_MIRROR to one, or run 'apt-get update' first"
	echo "${m%/}"
}

# keyring prints the file with Debian's archive keys. A Debian machine has it; elsewhere it is
# taken from the distribution's own, signed, debian-archive-keyring package.
keyring() {
	local k=/usr/share/keyrings/debian-archive-keyring.gpg
	if [ ! -r $k ]; then
		k=$cache/debian-archive-keyring.gpg
		[ -s "$k" ] || in_package debian-archive-keyring ./usr/share/keyrings/debian-archive-keyring.gpg >"$k.new"
		[ -s "$k" ] || mv "$k.new" "$k"
		[ -s "$k" ] || die "no Debian archive keys: apt-get install debian-archive-keyring"
	fi
	echo "$k"
}

# in_package PACKAGE MEMBER prints one file of a package of this machine's distribution.
in_package() {
	local d; d=$(mktemp -d)
	(cd "$d" && apt-get -qq download "$1" >&2 && dpkg-deb --fsys-tarfile ./*.deb | tar -xOf - "$2") || true
	rm -rf "$d"
}

# debian SUITE COMMAND... runs an apt command in a state of the lab's own, which knows this
# suite only and believes that nothing is installed. /etc/apt is read for proxies alone.
debian() {
	local suite=$1 state=$cache/apt/$1; shift
	if [ ! -e "$state/ready" ]; then
		say "reading the package list of $suite"
		mkdir -p "$state/lists/partial" "$state/parts/partial" "$cache/debs/partial"
		: >"$state/status"
		echo "deb [arch=amd64 signed-by=$(keyring)] $(mirror) $suite main" >"$state/sources.list"
		cat >"$state/apt.conf" <<-X
			APT::Architecture "amd64"; APT::Architectures { "amd64"; };
			APT::Install-Recommends "false"; APT::Sandbox::User "$(id -un)";
			Acquire::Languages "none"; Acquire::Retries "3"; Acquire::http::Timeout "60";
			Dir::State "$state"; Dir::State::lists "$state/lists"; Dir::State::status "$state/status";
			Dir::Cache "$state"; Dir::Cache::archives "$cache/debs";
			Dir::Etc::sourcelist "$state/sources.list"; Dir::Etc::sourceparts "$state/parts";
			Dir::Etc::preferencesparts "$state/parts"; Dir::Etc::preferences "$state/none";
		X
		APT_CONFIG=$state/apt.conf apt-get -qq update >&2
		touch "$state/ready"
	fi
	APT_CONFIG=$state/apt.conf "$@"
}

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
	unshare $user -m sh -ec '
		root=$1; dir=$2; shift 2
		mount --rbind /dev "$root/dev"; mount --bind "$dir" "$root/mnt"
		exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin LC_ALL=C sh -c "cd /mnt && exec \"\$@\"" sh "$@"' sh "$root" "$dir" "$@"
}
