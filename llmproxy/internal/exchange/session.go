package exchange

import "net/http"

// sessionHeaders are the headers in which agents send the ID of a session, in order of precedence.
var sessionHeaders = []string{"X-Claude-Code-Session-Id", "X-Session-Affinity", "Session-Id", "Session_id", "X-Session-Id"}

// Session returns the ID of the session that a request belongs to, or "" if its headers have none.
func Session(header http.Header) string {
	for _, name := range sessionHeaders {
		if v := header[name]; len(v) > 0 && v[0] != "" {
			return v[0]
		}
	}
	return ""
}
