# Where Debian packages come from, without touching the machine's own apt. Sourced by build.sh;
# $cache is the cache folder. A change here rebuilds nothing: the packages stay the same.

die() { echo "lab: $*" >&2; exit 1; }
say() { echo "lab: $*" >&2; }

# mirror prints the Debian mirror to download from: LAB_MIRROR, the one this machine's apt
# uses, or (on Ubuntu, which has none) the default that its own debootstrap package carries.
mirror() {
	local m=${LAB_MIRROR:-}
	# Not "Origin: Debian": that is not known before the first apt-get update.
	[ -n "$m" ] || m=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -E '/debian/?$' | head -n1)
	[ -n "$m" ] || m=$(in_package debootstrap ./usr/sbin/debootstrap | sed -n 's/^ *DEF_MIRROR="\(http[^"]*\/debian\)".*/\1/p' | head -n1)
	[ -n "$m" ] || die "no Debian mirror known: set LAB_MIRROR to one"
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
	[ -n "$(apt-cache madison "$1" 2>/dev/null)" ] || [ "$(id -u)" != 0 ] || apt-get -qq update >&2
	(cd "$d" && apt-get -qq -o APT::Sandbox::User=root download "$1" >&2 && dpkg-deb --fsys-tarfile ./*.deb | tar -xOf - "$2") || true
	rm -rf "$d"
}

# debian SUITE COMMAND... runs an apt command in a state of the lab's own, which knows this
# suite only and believes that nothing is installed. Of the machine's own settings only those of
# http count (proxies): its hooks would act on the machine. Signatures are checked; their expiry
# is not, as a mirror that is some weeks behind will do.
debian() {
	local suite=$1 state=$cache/apt/$1; shift
	# A list that is a day old may name packages that the mirror no longer has.
	if [ -z "$(find "$state/ready" -mtime -1 2>/dev/null)" ]; then
		say "reading the package list of $suite"
		mkdir -p "$state/lists/partial" "$state/parts/partial" "$cache/debs/partial"
		: >"$state/status"
		echo "deb [arch=amd64 signed-by=$(keyring)] $(mirror) $suite main" >"$state/sources.list"
		cat >"$state/apt.conf" <<-X
			APT::Architecture "amd64"; APT::Architectures { "amd64"; };
			APT::Install-Recommends "false"; APT::Sandbox::User "root";
			Acquire::Languages "none"; Acquire::Check-Valid-Until "false"; Acquire::Retries "3"; Acquire::http::Timeout "60";
			Dir::State "$state"; Dir::State::lists "$state/lists"; Dir::State::status "$state/status";
			Dir::Cache "$state"; Dir::Cache::archives "$cache/debs";
			Dir::Etc::sourcelist "$state/sources.list"; Dir::Etc::sourceparts "$state/parts";
			Dir::Etc::preferencesparts "$state/parts"; Dir::Etc::preferences "$state/none";
			Dir::Etc::parts "$state/parts"; Dir::Etc::main "$state/none";
			$(apt-config dump | grep -E '^Acquire::https?::')
		X
		APT_CONFIG=$state/apt.conf apt-get -qq -o APT::Update::Error-Mode=any update >&2
		touch "$state/ready"
	fi
	APT_CONFIG=$state/apt.conf "$@"
}
