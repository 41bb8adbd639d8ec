package admin

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
)

func methodNotAllowed(r *http.Request, use string) error {
	return apiError(http.StatusMethodNotAllowed, fmt.Errorf("method %s is not allowed; use %s", r.Method, use))
}

func apiError(status int, err error) error { return caddy.APIError{HTTPStatus: status, Err: err} }

func writeJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return apiError(http.StatusInternalServerError, err)
	}
	return nil
}
