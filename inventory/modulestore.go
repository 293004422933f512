package inventory

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory/module"
)

// sharedModule is how processes tell each other what one of them read of a module.
type sharedModule struct {
	Serial  string         `json:"serial"`
	Read    time.Time      `json:"read"`
	Regions []sharedRegion `json:"regions"`
}

type sharedRegion struct {
	Page   module.Page `json:"page"`
	Offset int         `json:"offset"`
	Data   []byte      `json:"data"`
	// Static is what changes only with the module.
	Static bool `json:"static,omitempty"`
}

// sharedName is what a NIC's module is kept under: names and indexes are those of a
// network namespace. Empty where that can't be told, or nothing is shared.
func (m *Modules) sharedName(ctx context.Context, r kernel.Reader, nic NIC) string {
	if m.Shared == nil {
		return ""
	}
	namespace, err := r.ReadLink(ctx, "/proc/self/ns/net")
	if err != nil {
		return ""
	}
	return fmt.Sprintf("module-%s-%d-%s", namespace, nic.Index, nic.Name)
}

// shared is what another process read of the module of that serial number; nil where
// there is nothing of it that could be believed.
func (m *Modules) shared(name, serial string) *pluggedModule {
	if name == "" {
		return nil
	}
	data, err := m.Shared.Load(name)
	if err != nil {
		return nil
	}
	var s sharedModule
	if json.Unmarshal(data, &s) != nil || s.Serial != serial {
		return nil
	}
	image, static := new(module.Image), map[moduleRegion][]byte{}
	for _, r := range s.Regions {
		if image.Set(r.Page, r.Offset, r.Data) != nil {
			return nil
		}
		if r.Static {
			static[moduleRegion{r.Page, r.Offset, len(r.Data)}] = r.Data
		}
	}
	decoded, err := module.Decode(image)
	if err != nil {
		return nil
	}
	return &pluggedModule{serial: serial, static: static, module: decoded, read: s.Read}
}

// share keeps what was read for other processes. Where that fails they read it
// themselves.
func (m *Modules) share(name string, reading *moduleReading, now time.Time) {
	if name == "" {
		return
	}
	s := sharedModule{Serial: reading.serial, Read: now}
	for region, data := range reading.read {
		_, static := reading.static[region]
		s.Regions = append(s.Regions, sharedRegion{region.page, region.offset, data, static})
	}
	if data, err := json.Marshal(s); err == nil {
		_ = m.Shared.Save(name, data)
	}
}
