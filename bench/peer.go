package main

import (
	"fmt"
	"os/exec"
	"strings"
)

// peerScript installs and runs the other gateways. It knows their versions and configurations.
const peerScript = "bench/peers/peers.sh"

// A peer is another gateway.
type peer struct {
	dir           string // where it is installed
	name, version string
}

// installedPeers returns the gateways that are installed in a directory.
func installedPeers(dir string) (list []peer, err error) {
	out, err := exec.Command(peerScript, "list", dir).Output()
	if err != nil {
		return nil, fmt.Errorf("%s list: %w", peerScript, err)
	}
	for line := range strings.Lines(string(out)) {
		name, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		list = append(list, peer{dir: dir, name: name, version: version})
	}
	return list, nil
}

// command returns what runs the gateway on addr, in front of an upstream.
func (p *peer) command(addr, upstream string) []string {
	return []string{peerScript, "run", p.dir, p.name, addr, upstream}
}

// header returns the header lines that the gateway's clients must send.
func (p *peer) header(upstream string) string {
	if p.name != "Portkey" {
		return ""
	}
	return "X-Portkey-Provider: openai\r\nX-Portkey-Custom-Host: http://" + upstream + "/v1\r\n"
}
