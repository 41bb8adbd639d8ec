package delivery

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"syscall"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// reason returns why an attempt failed, for the client: the status and the short reason of an error response, or what happened to the
// connection. It contains no secrets, no addresses and nothing of the prompt. Status is zero if there was no response.
func reason(status int, body []byte, err error, redactor *upstream.Redactor) string {
	switch status {
	case 0, http.StatusOK, http.StatusCreated:
		if body == nil {
			return connectionReason(err)
		}
		return quoted(redactor.Reason(body))
	case http.StatusUnauthorized: // its text is about the gateway's own key
		body = nil
	}
	text := "status " + strconv.Itoa(status)
	if said := quoted(redactor.Reason(body)); said != "" {
		text += ", " + said
	}
	return text
}

func quoted(text string) string {
	if text == "" {
		return ""
	}
	return strconv.Quote(text)
}

// mediaType returns the type that a Content-Type header states, if that is a usual one.
func mediaType(contentType string) string {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil || len(media) > 60 {
		return ""
	}
	return media
}

// connectionReason describes an error without an error response. The errors of net contain addresses.
func connectionReason(err error) string {
	var (
		dns         *net.DNSError
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		hostname    x509.HostnameError
		authority   x509.UnknownAuthorityError
		timeout     net.Error
		connect     *upstream.ConnectError
		unexpected  *relay.TypeError
	)
	switch {
	case errors.As(err, &unexpected):
		return "its answer has the content type " + strconv.Quote(mediaType(unexpected.ContentType))
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.As(err, &dns):
		return "its name cannot be resolved"
	case errors.As(err, &certificate), errors.As(err, &hostname), errors.As(err, &authority):
		return "its TLS certificate is not valid"
	case errors.As(err, &record):
		return "it does not speak TLS"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no route to it"
	case errors.As(err, &connect) && errors.As(err, &timeout) && timeout.Timeout():
		return "it did not accept a connection in time"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "it reset the connection"
	case errors.Is(err, relay.ErrIncomplete):
		return "its answer ended too early"
	case errors.Is(err, relay.ErrMalformed), errors.Is(err, relay.ErrNotJSON):
		return "its answer is not valid JSON"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it closed the connection"
	}
	return ""
}
