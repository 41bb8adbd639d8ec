//go:build unix

package redistest

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/freeport"
)

// clusterSlots is into how many slots the keys of a cluster fall.
const clusterSlots = 16384

// StartCluster runs a cluster of three such servers without replicas, and gives the URL that names all of them.
func (setup Setup) StartCluster(t testing.TB) (nodes []*Server, url string) {
	t.Helper()
	if setup.TLS != nil {
		setup = setup.with("--tls-cluster", "yes")
	}
	var buses []string
	for range 3 {
		_, bus, _ := net.SplitHostPort(freeport.Address(t))
		buses = append(buses, bus)
		nodes = append(nodes, setup.with("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", bus).Start(t))
	}
	share := clusterSlots / len(nodes)
	for i, node := range nodes {
		last := (i+1)*share - 1
		if i == len(nodes)-1 {
			last = clusterSlots - 1
		}
		host, port, _ := net.SplitHostPort(node.Address)
		if node.do("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*share), strconv.Itoa(last)) != "OK" || nodes[0].do("CLUSTER", "MEET", host, port, buses[i]) != "OK" {
			t.Fatal("the cluster does not come together")
		}
	}
	for _, node := range nodes {
		until(t, "the cluster does not come together", func() bool {
			info := node.do("CLUSTER", "INFO")
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3")
		})
	}
	return nodes, nodes[0].URL() + "?addr=" + nodes[1].Address + "&addr=" + nodes[2].Address
}

// A Pair is a server and its replica, which a sentinel puts in its place when it is away.
type Pair struct {
	Master, Replica, Sentinel *Server
	// URL names the sentinel and what it calls the pair.
	URL string
}

// StartPair runs such a server, its replica, and a sentinel that takes half a second of silence for death.
func (setup Setup) StartPair(t testing.TB) *Pair {
	t.Helper()
	p := &Pair{Master: setup.with("--repl-diskless-sync-delay", "0").Start(t)}
	host, port, _ := net.SplitHostPort(p.Master.Address)
	p.Replica = setup.with("--replicaof", host+" "+port).Start(t)
	conf := filepath.Join(t.TempDir(), "sentinel.conf")
	text := "sentinel monitor pair " + host + " " + port + " 1\nsentinel down-after-milliseconds pair 500\nsentinel failover-timeout pair 2000\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p.Sentinel = Setup{Binary: setup.Binary, TLS: setup.TLS, conf: conf}.Start(t)
	p.URL = p.Sentinel.URL() + "?master_name=pair"
	until(t, "the sentinel does not find the replica", func() bool {
		return strings.Contains(p.Replica.do("INFO", "replication"), "master_link_status:up") &&
			strings.Contains(p.Sentinel.do("INFO", "sentinel"), "status=ok") && strings.Contains(p.Sentinel.do("INFO", "sentinel"), "slaves=1")
	})
	return p
}
