package xdpcheck

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// sources says whose a file below drivers/net is: the longest prefix of its path
// counts. Names are those of ethtool -i; more than one where one source makes several
// drivers.
var sources = []struct {
	prefix  string
	drivers []string
}{
	{"bonding/", []string{"bonding"}}, {"ethernet/amazon/ena/", []string{"ena"}}, {"ethernet/aquantia/atlantic/", []string{"atlantic"}},
	{"ethernet/broadcom/bnxt/", []string{"bnxt_en"}}, {"ethernet/cavium/thunder/", []string{"nicvf"}}, {"ethernet/engleder/tsnep", []string{"tsnep"}},
	{"ethernet/freescale/dpaa/", []string{"fsl_dpa"}}, {"ethernet/freescale/dpaa2/dpaa2-", []string{"fsl_dpaa2_eth"}},
	{"ethernet/freescale/enetc/", []string{"fsl_enetc"}}, {"ethernet/freescale/fec_", []string{"fec"}}, {"ethernet/fungible/funeth/", []string{"funeth"}},
	{"ethernet/google/gve/", []string{"gve"}}, {"ethernet/intel/i40e/", []string{"i40e"}}, {"ethernet/intel/ice/", []string{"ice"}},
	{"ethernet/intel/idpf/", []string{"idpf"}}, {"ethernet/intel/libeth/", []string{"idpf"}}, {"include/net/libeth/", []string{"idpf"}},
	{"ethernet/intel/igb/", []string{"igb"}}, {"ethernet/intel/igc/", []string{"igc"}}, {"ethernet/intel/ixgbe/", []string{"ixgbe"}},
	{"ethernet/intel/ixgbevf/", []string{"ixgbevf"}}, {"ethernet/marvell/mvneta.c", []string{"mvneta"}}, {"ethernet/marvell/mvpp2/", []string{"mvpp2"}},
	{"ethernet/marvell/octeontx2/nic/otx2_", []string{"rvu-nicpf"}}, {"ethernet/marvell/octeontx2/nic/otx2_vf.c", []string{"rvu-nicvf"}},
	{"ethernet/mediatek/mtk_eth_soc", []string{"mtk_soc_eth"}}, {"ethernet/mellanox/mlx4/", []string{"mlx4_en"}}, {"ethernet/mellanox/mlx5/core/", []string{"mlx5_core"}},
	{"ethernet/meta/fbnic/", []string{"fbnic"}}, {"ethernet/microchip/lan966x/", []string{"lan966x-switch"}}, {"ethernet/microsoft/mana/", []string{"mana"}},
	{"ethernet/netronome/nfp/", []string{"nfp"}}, {"ethernet/pensando/ionic/", []string{"ionic"}}, {"ethernet/qlogic/qede/", []string{"qede"}},
	{"ethernet/sfc/", []string{"sfc"}}, {"ethernet/sfc/siena/", []string{"sfc_siena"}}, {"ethernet/socionext/netsec.c", []string{"netsec"}},
	{"ethernet/stmicro/stmmac/", []string{"st_gmac", "st_xgmac", "st_mac100"}}, {"ethernet/ti/am65-cpsw", []string{"am65-cpsw-nuss"}},
	{"ethernet/ti/cpsw", []string{"cpsw", "cpsw-switch"}}, {"ethernet/ti/icssg/", []string{"icssg-prueth"}}, {"hyperv/", []string{"hv_netvsc"}},
	{"netdevsim/", []string{"netdevsim"}}, {"netkit.c", []string{"netkit"}}, {"tun.c", []string{"tun"}}, {"veth.c", []string{"veth"}},
	{"virtio_net.c", []string{"virtio_net"}}, {"vmxnet3/", []string{"vmxnet3"}}, {"xen-netfront.c", []string{"vif"}},
}

// excused is where a word in a source means something else than it says.
var excused = map[string]string{
	"netkit 7.2 program":        "it refuses programs, and passes AF_XDP pools on",
	"fec 6.12 zero-copy":        "answered with EOPNOTSUPP",
	"virtio_net 6.12 zero-copy": "code for it that is not announced, as the table's source says",
	"netdevsim 7.2 rx-sg":       "it takes such programs and announces none of it",
	"bonding 6.1 redirect":      "its members have it",
	"bonding 6.12 redirect":     "its members have it",
	"bonding 7.2 redirect":      "its members have it",
}

// The table is held against the sources of four kernels: each driver that has a hook
// for XDP is in it, nothing that a source has is denied, nothing is claimed that no
// source of the driver has, and of these kernels all but multi-buffer is known.
func TestTableAgreesWithSources(t *testing.T) {
	data, err := os.ReadFile("testdata/kernel-sources.txt")
	if err != nil {
		t.Fatal(err)
	}
	known := table(t)
	found := map[string]bool{} // "driver kernel word"
	var kernels []Release
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		if strings.HasPrefix(line, "#") || len(words) == 0 {
			continue
		}
		r, ok := ParseRelease(words[0])
		if !ok || len(words) < 3 {
			t.Fatalf("%q", line)
		}
		if !slices.Contains(kernels, r) {
			kernels = append(kernels, r)
		}
		longest := 0
		var drivers []string
		for _, s := range sources {
			if strings.HasPrefix(words[1], s.prefix) && len(s.prefix) > longest {
				longest, drivers = len(s.prefix), s.drivers
			}
		}
		if drivers == nil {
			t.Errorf("Linux %s has XDP in %s, and no driver of the table is for it", r, words[1])
		}
		for _, d := range drivers {
			if known.Driver(d) == nil {
				t.Errorf("%s (%s in Linux %s) is not in the table", d, words[1], r)
			}
			for _, w := range words[2:] {
				found[d+" "+r.String()+" "+w] = true
			}
		}
	}
	if len(kernels) != 4 || len(found) < 300 {
		t.Fatalf("%d kernels, %d finds", len(kernels), len(found))
	}
	used := map[string]bool{}
	for _, d := range known.Drivers {
		for _, r := range kernels {
			for word, s := range map[string]Support{"program": d.Native, "redirect": d.Redirect, "xmit": d.Xmit, "zero-copy": d.ZeroCopy, "rx-sg": d.MultiBuffer, "hardware": d.Offload} {
				key := d.Names[0] + " " + r.String() + " " + word
				said, has, wrong := s.has(r, known.Read), found[key], ""
				switch announced := word != "rx-sg" || !r.Before(Release{6, 3}); {
				case has && said < 0:
					wrong = "the source has it, the table says it has not"
				case !has && said > 0 && announced:
					wrong = "the table says it has it, the source has not"
				case said == 0 && !d.Native.None && word != "rx-sg":
					wrong = "the table says nothing of a kernel that was read"
				}
				if wrong != "" && excused[key] == "" {
					t.Errorf("%s: %s", key, wrong)
				}
				used[key] = wrong != ""
			}
		}
	}
	for key, why := range excused {
		if !used[key] {
			t.Errorf("%s is excused (%s) and needs no excuse", key, why)
		}
	}
}
