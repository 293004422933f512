package inventory

import "context"

// readLinks lists the host's network devices; everything else hangs facts on
// what it found.
func readLinks(ctx context.Context, s *survey) error { return nil }
