#!/bin/bash
# Builds all that the lab needs and prints the folder with the result.
#
# Each step (build/STEP.sh) fills a folder $LAB_CACHE/STEP-HASH, where the hash covers the
# step's script and everything it reads of this repository. A change therefore rebuilds what
# it touches and nothing else, and several checkouts can share one cache at the same time.
set -euo pipefail
lab=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${LAB_CACHE:-$lab/.cache}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
. "$lab/build/packages.sh"
. "$lab/build/unpack.sh"

[ "$(uname -sm)" = "Linux x86_64" ] || die "the lab's VM needs an x86-64 Linux host, this is $(uname -sm)"

# provide PROGRAM:PACKAGE... installs what the host itself lacks, or says what to install.
provide() {
	local missing=() p sudo=
	for p; do command -v "${p%%:*}" >/dev/null || missing+=("${p#*:}"); done
	[ ${#missing[@]} -gt 0 ] || return 0
	[ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null && sudo=sudo; } ||
		die "missing: ${missing[*]}. Install with: apt-get install ${missing[*]}"
	say "installing ${missing[*]}"
	$sudo apt-get -qq update >&2 && $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" >&2
}

# step NAME INPUT...: the inputs are files below lab/, the folders of earlier steps, or =WORD.
# Leaves the step's folder in the variable NAME.
step() {
	local name=$1 input hash began; shift
	hash=$(for input in build/unpack.sh "build/$name.sh" "$@"; do
		case $input in /*) echo "${input##*/}" ;; =*) echo "$input" ;; *) sha256sum <"$lab/$input" ;; esac
	done | sha256sum | cut -c1-12)
	out=$cache/$name-$hash
	if [ ! -d "$out" ]; then
		lock
		if [ ! -d "$out" ]; then
			local final=$out; out=$cache/$name-$hash.part; began=$EPOCHREALTIME
			rm -rf "$out"; mkdir -p "$out"
			. "$lab/build/$name.sh"
			mv "$out" "$final"; out=$final
			say "$name built in $(awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }') s"
		fi
	fi
	touch "$out" 2>/dev/null || true # in use: see lock
	printf -v "$name" %s "$out"
}
lock() {
	[ -z "${locked:-}" ] || return 0
	command -v apt-get >/dev/null || die "no apt-get: the lab is built of Debian packages and needs a Debian or Ubuntu host"
	command -v go >/dev/null || die "no go in PATH: install Go as the README says"
	provide dpkg-deb:dpkg tar:tar unshare:util-linux flock:util-linux
	exec 9>"$cache/lock"
	flock -n 9 || { say "another build holds $cache/lock, waiting"; flock -w 1800 9 || die "gave up waiting for $cache/lock"; }
	locked=1
	rm -rf "$cache"/*.part # what a build that was stopped left behind
	find "$cache" -mindepth 1 -maxdepth 1 -name '*-????????????' -mtime +14 -exec rm -rf {} +
}

step qemu
# Not in the hash of the kernel that everybody has.
step kernel ${LAB_KERNEL:+=$LAB_KERNEL}
step guest
step modules netdevsim/Kbuild netdevsim/nsim_lab.h netdevsim/nsim_port.h "$kernel"
step image guest/init "$kernel" "$guest" "$modules" "$qemu"
mapfile -t sources < <(cd "$lab" && ls labrun/*.go | grep -v _test.go)
step runner "${sources[@]}"

echo "$image $runner"
