package bench

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nictune/nictune/lab/nstest"
)

const (
	crowd     = 1000        // scrapes at a time
	crowdTime = time.Minute // three seconds with -short
)

// slope is that of the line through points which is nearest to them (least squares).
func slope(x, y []float64) float64 {
	var sumX, sumY, sumXX, sumXY float64
	for i := range x {
		sumX, sumY = sumX+x[i], sumY+y[i]
		sumXX, sumXY = sumXX+x[i]*x[i], sumXY+x[i]*y[i]
	}
	n := float64(len(x))
	return (n*sumXY - sumX*sumY) / (n*sumXX - sumX*sumX)
}

// BenchmarkCrowd has a thousand clients scrape nictune's agent again and again for a
// minute. No scrape may fail. How often the kernel was asked is reported, how much memory
// that took, and by how much it grew in the last three quarters of the time.
func BenchmarkCrowd(b *testing.B) {
	nstest.Require(b)
	nstest.IP(b, "link set lo up")
	const count = 100
	devices(b, count, veths)
	defer func() { remove(b, listed(b)) }()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	cmd := exec.Command(build(b), "agent", "--web.listen-address="+address)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	transport := &http.Transport{MaxIdleConnsPerHost: crowd, DisableCompression: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Timeout: time.Minute, Transport: transport}
	ask := func(encoding string) ([]byte, error) {
		request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://"+address+"/metrics", http.NoBody)
		if err != nil {
			return nil, err
		}
		request.Header.Set("Accept-Encoding", encoding)
		response, err := client.Do(request)
		if err != nil {
			return nil, err
		}
		defer response.Body.Close()
		page, err := io.ReadAll(response.Body)
		if err == nil && (response.StatusCode != http.StatusOK || len(page) == 0) {
			err = fmt.Errorf("%s, %d bytes", response.Status, len(page))
		}
		return page, err
	}
	var page []byte
	for start := time.Now(); bytes.Count(page, []byte("\nnictune_network_mtu_bytes{")) < count; time.Sleep(100 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			b.Fatal("the agent does not serve all devices after a minute")
		}
		page, _ = ask("identity")
	}
	collections := func() int {
		page, err := ask("identity")
		if err != nil {
			b.Fatal(err)
		}
		_, rest, _ := bytes.Cut(page, []byte("\nnictune_scrape_collections_total "))
		n, err := strconv.Atoi(strings.Fields(string(rest))[0])
		if err != nil {
			b.Fatal(err)
		}
		return n
	}

	length := crowdTime
	if testing.Short() {
		length = 3 * time.Second
	}
	before, used := collections(), processCPU(b, cmd.Process.Pid)
	var scrapes, failed atomic.Int64
	var clients sync.WaitGroup
	start := time.Now()
	for range crowd {
		clients.Go(func() {
			for time.Since(start) < length {
				scrapes.Add(1)
				if _, err := ask("gzip"); err != nil {
					failed.Add(1)
					b.Error(err)
					return
				}
			}
		})
	}
	// The first quarter is for the connections to be made.
	var at, resident []float64
	for time.Since(start) < length {
		time.Sleep(length / 60)
		if since := time.Since(start); since > length/4 && since < length {
			at, resident = append(at, since.Seconds()), append(resident, float64(residentMemory(b, cmd.Process.Pid))/(1<<20))
		}
	}
	clients.Wait()
	took := time.Since(start)
	used = processCPU(b, cmd.Process.Pid) - used
	b.ReportMetric(float64(scrapes.Load()), "scrapes")
	b.ReportMetric(float64(failed.Load()), "failed")
	b.ReportMetric(float64(collections()-before), "collections")
	b.ReportMetric(slope(at, resident), "MiB-more-per-s")
	b.ReportMetric(slices.Min(resident), "least-MiB")
	b.ReportMetric(slices.Max(resident), "most-MiB")
	b.ReportMetric(float64(peakMemory(b, cmd.Process.Pid))/(1<<20), "peak-MiB")
	b.ReportMetric(float64(used)/1e6/float64(scrapes.Load()), "cpu-ms/scrape")
	b.ReportMetric(took.Seconds(), "s")
	b.ReportMetric(0, "ns/op")
}
