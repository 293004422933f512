package agent

import (
	"context"
	"errors"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// Watch subscribes to what the running kernel tells about network devices: link
// changes, and settings changed through ethtool netlink, by whomever. The
// result is for Options.Changes; it ends with ctx.
//
// Settings changed by the older ethtool ioctls are told of too, since the
// kernel does so from either way; sysfs and PCI changes are not, which is what
// the interval is for.
func Watch(ctx context.Context, live *kernel.Live) (func(context.Context) error, error) {
	groups := []kernel.Group{
		{Family: kernel.FamilyRoute, Route: uapi.RTNLGRP_LINK},
		{Family: kernel.FamilyEthtool, Name: "monitor"},
	}
	changes := make(chan error)
	for _, g := range groups {
		s, err := live.Subscribe(ctx, g)
		if kernel.ReasonOf(err) == kernel.Unsupported {
			continue // a kernel before 5.6 has no ethtool netlink
		}
		if err != nil {
			return nil, err
		}
		go func() {
			defer s.Close()
			for {
				_, err := s.Next(ctx)
				select {
				case changes <- err:
				case <-ctx.Done():
					return
				}
				if err != nil && !errors.Is(err, kernel.ErrOverrun) {
					return
				}
			}
		}()
	}
	return func(ctx context.Context) error {
		select {
		case err := <-changes:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}, nil
}
