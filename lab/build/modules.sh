# The kernel as QEMU boots it (uncompressed: a second less under emulation) and its modules:
# the ones named here with their dependencies, and netdevsim, built with the lab's add-on.
wanted='
	virtio_net net_failover failover vmxnet3 igb igbvf e1000e e1000
	dummy bonding macvlan macvtap ipvlan veth vxlan tun tap ifb team 8021q bridge vrf macsec psample
	vfio-pci vfio_iommu_type1 pci-stub 9p 9pnet_virtio virtio_blk ext4 vsock udp_tunnel
	sch_ingress sch_mqprio sch_taprio sch_etf sch_fq sch_fq_codel sch_multiq sch_netem sch_tbf sch_prio
	act_mirred act_skbedit act_gact cls_flower cls_matchall cls_u32 cls_bpf xsk_diag pktgen'

kver=$(cat "$kernel/kver")
mkdir -p "$out/build"
cp -r "$kernel/drivers/net/netdevsim" "$out/build/netdevsim"
cp "$kernel/drivers/ptp/ptp_mock.c" "$out/build/ptp_mock_main.c"
cp "$lab/netdevsim/Kbuild" "$out/build/"
cp "$lab/netdevsim/nsim_lab.h" "$lab/netdevsim/nsim_port.h" "$out/build/netdevsim/"
rm -f "$out/build/netdevsim/Makefile"

# These edits hang the add-ons into netdevsim; each must find its place.
hang() {
	grep -q "$2" "$out/build/netdevsim/$1" || die "netdevsim's $1 has no '$2' any more: the add-on in lab/netdevsim needs a new place"
	sed -i "s/$2/$3/" "$out/build/netdevsim/$1"
}
hang netdevsim.h '^struct nsim_ethtool {' 'struct lab_page { u8 address, bank, page, upper, bytes[128]; };\nstruct nsim_lab { u32 indir[128], pages; struct lab_page page[64]; u8 key[40]; u8 init, autoneg, hfunc, xfrm; u32 speed, used, ctx[32]; u64 hash[32], queued; struct ethtool_rx_flow_spec rules[32]; struct ethtool_coalesce queue[64]; struct ifla_vf_stats vf[8]; };\nint lab_vf_stats(struct net_device *dev, int vf, struct ifla_vf_stats *s);\n&\n\tstruct nsim_lab lab;'
hang ethtool.c '^static const struct ethtool_ops nsim_ethtool_ops = {' '#include "nsim_lab.h"\n&\n\tNSIM_LAB_OPS'
hang ethtool.c 'ethtool = debugfs_create_dir("ethtool", ns->nsim_dev_port->ddir);' '&\n\tdebugfs_create_file("module", 0200, ethtool, ns, \&lab_module_fops);\n\tdebugfs_create_file("vf_stats", 0200, ethtool, ns, \&lab_vf_stats_fops);'
hang netdev.c '^static const struct net_device_ops nsim_netdev_ops = {' '&\n\t.ndo_get_vf_stats = lab_vf_stats,'
hang netdev.c 'dev->hw_features |= NETIF_F_HW_TC' '& | NETIF_F_NTUPLE | NETIF_F_RXHASH'
hang netdevsim.h '^struct nsim_dev_port {' '&\n\tstruct { u8 mac[6]; bool roce, migratable, crypto, packet; u32 eqs; } lab;'
hang dev.c '^static int __nsim_dev_port_add(' '#include "nsim_port.h"\n&'
# Its representors have no clock, and asking them for one crashes the kernel.
hang ethtool.c 'info->phc_index = mock_phc_index(ns->phc);' 'info->phc_index = ns->phc ? mock_phc_index(ns->phc) : -1;'

say "building netdevsim for $kver"
enter "$kernel" "$out/build" make -s -C "/usr/src/linux-headers-$kver" M=/mnt -j2 modules >&2
tree=$out/lib/modules/$kver
mkdir -p "$tree"
enter "$kernel" "$out" sh -ec '
	kver=$1; shift
	strip -d build/*.ko; mv build/*.ko "lib/modules/$kver/"
	[ -e "/lib/modules/$kver/modules.dep" ] || depmod "$kver"
	for m in "$@"; do modprobe --show-depends -S "$kver" -C /dev/null "$m" | sed -n "s/^insmod \([^ ]*\).*/\1/p"; done | sort -u |
	while read -r f; do
		name=${f##*/}
		case $f in *.xz) xz -dc "$f" >"lib/modules/$kver/${name%.xz}" ;; *.zst) zstd -qdc "$f" >"lib/modules/$kver/${name%.zst}" ;; *) cp "$f" "lib/modules/$kver/" ;; esac
	done
	strip -d "lib/modules/$kver"/*.ko # their signatures go, too, which take half a second of each boot to check
	cp "/lib/modules/$kver"/modules.builtin* "/lib/modules/$kver/modules.order" "lib/modules/$kver/"
	depmod -b . "$kver"
' sh "$kver" $wanted >&2
rm -rf "$out/build"

# The image inside vmlinuz starts at the first zstd magic number.
enter "$kernel" "$out" sh -ec '
	z=/boot/vmlinuz-$1; [ -e $z ] || z=/usr/lib/modules/$1/vmlinuz # newer packages
	at=$(grep -aobP "\x28\xb5\x2f\xfd" $z | head -n1 | cut -d: -f1)
	tail -c +$((at + 1)) $z | zstd -dcq >vmlinux 2>/dev/null || true
	readelf -h vmlinux >/dev/null 2>&1 || cp $z vmlinux
' sh "$kver"
