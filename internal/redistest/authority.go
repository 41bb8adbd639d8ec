//go:build unix

package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// An Authority signs certificates, and nobody but those who are told trusts it. Its one certificate is good for servers at
// 127.0.0.1 and for clients.
type Authority struct {
	// CA, Certificate and Key are files in PEM.
	CA, Certificate, Key string

	pool        *x509.CertPool
	certificate tls.Certificate
}

// NewAuthority makes one, with its files in a directory of the test.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	dir := t.TempDir()
	a := &Authority{
		CA: filepath.Join(dir, "ca.pem"), Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"),
		pool: x509.NewCertPool(),
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	rootKey := newKey(t)
	write(t, a.CA, "CERTIFICATE", sign(t, root, root, rootKey, rootKey))
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	key := newKey(t)
	write(t, a.Certificate, "CERTIFICATE", sign(t, leaf, root, key, rootKey))
	bytes, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, a.Key, "EC PRIVATE KEY", bytes)
	if a.certificate, err = tls.LoadX509KeyPair(a.Certificate, a.Key); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(a.CA)
	if err != nil || !a.pool.AppendCertsFromPEM(text) {
		t.Fatal("the authority's certificate cannot be read: ", err)
	}
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, cert, by *x509.Certificate, key, with *ecdsa.PrivateKey) []byte {
	t.Helper()
	bytes, err := x509.CreateCertificate(rand.Reader, cert, by, &key.PublicKey, with)
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

func write(t testing.TB, file, what string, bytes []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: what, Bytes: bytes}), 0o600); err != nil {
		t.Fatal(err)
	}
}
