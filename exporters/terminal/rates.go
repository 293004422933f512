package terminal

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/nictune/nictune/audit"
)

// Screen is where something is drawn. The zero value is no terminal: a pipe or a
// file, which gets text in columns and nothing drawn.
type Screen struct {
	// Columns is the terminal's width, 0 for none or one that doesn't tell.
	Columns int
	// Color is whether it may be coloured.
	Color bool
}

// Bars are between these widths; a terminal that has no room for the least gets
// none.
const leastBar, mostBar = 10, 40

// Rates draws what happened between two looks: a line for each queue and each CPU
// that had something to do, with a bar where the screen has room for it.
func Rates(w io.Writer, rates *audit.Rates, screen Screen) error {
	queues := grid{head: []string{"QUEUE", "PACKETS/S", "LOST/S", "SHARE"}}
	idle := 0
	for _, q := range rates.Queues {
		if q.PacketsPerSecond == 0 && (q.LostPerSecond == nil || *q.LostPerSecond == 0) {
			idle++
			continue
		}
		name, lost := q.Device+" "+q.Direction, unknown
		if q.Queue != nil {
			name += "-" + strconv.Itoa(*q.Queue)
		}
		bad := false
		if q.LostPerSecond != nil {
			lost, bad = perSecond(*q.LostPerSecond), *q.LostPerSecond > 0
		}
		queues.add(q.Share, bad, printable(name), perSecond(q.PacketsPerSecond), lost, percent(q.Share))
	}
	cpus := grid{head: []string{"CPU", "PACKETS/S", "DROPS/S", "SQUEEZES/S", "IRQ+SOFTIRQ"}}
	rest := 0
	const little = 0.01
	for _, c := range rates.CPUs {
		share := c.SoftIRQ + c.IRQ
		if share < little && c.PacketsPerSecond == 0 && c.DropsPerSecond == 0 {
			rest++
			continue
		}
		const saturated = 0.9
		cpus.add(share, share >= saturated || c.DropsPerSecond > 0, strconv.Itoa(c.CPU), perSecond(c.PacketsPerSecond),
			perSecond(c.DropsPerSecond), perSecond(c.SqueezesPerSecond), percent(share))
	}
	fmt.Fprintf(w, "%.4g seconds:\n\n", rates.Seconds)
	queues.write(w, screen)
	note(w, idle, "queue", "had no packets")
	fmt.Fprintln(w)
	cpus.write(w, screen)
	note(w, rest, "CPU", "had nothing to receive")
	_, err := fmt.Fprintln(w)
	return err
}

func note(w io.Writer, n int, what, did string) {
	switch n {
	case 0:
	case 1:
		fmt.Fprintf(w, "1 %s %s\n", what, did)
	default:
		fmt.Fprintf(w, "%d %ss %s\n", n, what, did)
	}
}

// perSecond is a rate with no more digits than it deserves.
func perSecond(v float64) string {
	if v > 0 && v < 10 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }

// grid is a table whose last column is a share that can be drawn. The first column
// is words, the others are numbers.
type grid struct {
	head []string
	rows [][]string
	// share and bad are each row's.
	share []float64
	bad   []bool
}

func (g *grid) add(share float64, bad bool, cells ...string) {
	g.rows, g.share, g.bad = append(g.rows, cells), append(g.share, share), append(g.bad, bad)
}

func (g *grid) write(w io.Writer, screen Screen) {
	if len(g.rows) == 0 {
		return
	}
	widths := make([]int, len(g.head))
	for i, title := range g.head {
		widths[i] = len(title)
	}
	total := 2 * (len(g.head) - 1)
	for _, row := range g.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	for _, width := range widths {
		total += width
	}
	bar := min(screen.Columns-total-2, mostBar)
	line := func(cells []string) string {
		var b strings.Builder
		fmt.Fprintf(&b, "%-*s", widths[0], cells[0])
		for i, cell := range cells[1:] {
			fmt.Fprintf(&b, "  %*s", widths[i+1], cell)
		}
		return b.String()
	}
	fmt.Fprintln(w, line(g.head))
	for i, row := range g.rows {
		text := line(row)
		if bar >= leastBar {
			text += "  " + strings.Repeat("#", min(int(g.share[i]*float64(bar)+0.5), bar))
		}
		if text = strings.TrimRight(text, " "); g.bad[i] && screen.Color {
			text = "\x1b[31m" + text + "\x1b[0m"
		}
		fmt.Fprintln(w, text)
	}
}
