package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/check"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

// An Inspector returns what the JSON of a handler llm_proxy says, with upstreams that can be asked until the closer is closed.
type Inspector func(ctx caddy.Context, closer *state.Closer, handler json.RawMessage) (*check.Site, error)

// loadChecked loads a configuration as `caddy validate` does, and returns what it says about llm_proxy.
func loadChecked(file, adapter string, closer *state.Closer, inspect Inspector) (*check.Config, error) {
	text, _, _, err := caddycmd.LoadConfig(file, adapter)
	if err != nil {
		return nil, err
	}
	if len(text) == 0 {
		return nil, errors.New("there is no Caddyfile in this directory; write the configuration file with --config")
	}
	text = caddy.RemoveMetaFields(text)
	var config, validated *caddy.Config // Caddy removes from a configuration what it has loaded
	if err := errors.Join(caddy.StrictUnmarshalJSON(text, &config), caddy.StrictUnmarshalJSON(text, &validated)); err != nil {
		return nil, fmt.Errorf("decoding the configuration: %w", err)
	}
	quiet(validated)
	if err := caddy.Validate(validated); err != nil {
		return nil, err
	}
	nothing, err := caddy.ProvisionContext(&caddy.Config{}) // what upstreams need of Caddy
	if err != nil {
		return nil, err
	}
	ctx, cancel := caddy.NewContext(nothing)
	closer.Add(cancel)
	return describe(ctx, closer, config, inspect)
}

// quiet leaves out of the default log what is no error: warnings are in the report.
func quiet(config *caddy.Config) {
	if config.Logging == nil {
		config.Logging = new(caddy.Logging)
	}
	if config.Logging.Logs == nil {
		config.Logging.Logs = map[string]*caddy.CustomLog{}
	}
	log := config.Logging.Logs[caddy.DefaultLoggerName]
	if log == nil {
		log = new(caddy.CustomLog)
		config.Logging.Logs[caddy.DefaultLoggerName] = log
	}
	log.Level = "ERROR"
}

// describe returns what a valid configuration says about llm_proxy.
func describe(ctx caddy.Context, closer *state.Closer, config *caddy.Config, inspect Inspector) (*check.Config, error) {
	var http caddyhttp.App
	var raw struct{ Servers map[string]json.RawMessage }
	if app := config.AppsRaw["http"]; app != nil {
		if err := errors.Join(json.Unmarshal(app, &http), json.Unmarshal(app, &raw)); err != nil {
			return nil, err
		}
	}
	found := &check.Config{Version: caddyVersion(), GracePeriod: time.Duration(http.GracePeriod), Admin: adminAddress(config.Admin)}
	for _, name := range sorted(raw.Servers) {
		server := http.Servers[name]
		var sites []*check.Site
		for _, handler := range handlersIn(raw.Servers[name]) {
			site, err := inspect(ctx, closer, handler)
			if err != nil {
				return nil, err
			}
			sites = append(sites, site)
		}
		if len(sites) == 0 {
			continue
		}
		s := &check.Server{
			Name: name, Listen: server.Listen, Sites: sites, Public: check.Public(server.Listen), Plain: isPlain(server, &http),
			ReadTimeout: time.Duration(server.ReadTimeout), WriteTimeout: time.Duration(server.WriteTimeout),
			Logs: logsOf(config.Logging, server.Logs),
		}
		s.LogsCredentials = server.Logs != nil && server.Logs.ShouldLogCredentials
		found.Servers = append(found.Servers, s)
	}
	if len(found.Servers) == 0 {
		return nil, errors.New("the configuration has no llm_proxy")
	}
	return found, nil
}

// caddyVersion returns the version of Caddy, or an empty string if it is unknown.
func caddyVersion() string {
	version, _ := caddy.Version()
	if !strings.HasPrefix(version, "v") {
		return ""
	}
	return version
}

func adminAddress(admin *caddy.AdminConfig) string {
	switch {
	case admin == nil:
		return caddy.DefaultAdminListen
	case admin.Disabled:
		return ""
	case admin.Listen == "":
		return caddy.DefaultAdminListen
	}
	return admin.Listen
}

// handlersIn returns the JSON of all handlers llm_proxy in a part of the configuration, in whatever depth.
func handlersIn(part json.RawMessage) (found []json.RawMessage) {
	var object map[string]json.RawMessage
	var list []json.RawMessage
	switch {
	case json.Unmarshal(part, &object) == nil:
		if string(object["handler"]) == `"llm_proxy"` {
			delete(object, "handler")
			handler, err := json.Marshal(object)
			if err != nil {
				return nil // it was JSON before
			}
			return []json.RawMessage{handler}
		}
		for _, name := range sorted(object) {
			found = append(found, handlersIn(object[name])...)
		}
	case json.Unmarshal(part, &list) == nil:
		for _, element := range list {
			found = append(found, handlersIn(element)...)
		}
	}
	return found
}

// sorted returns the names of members in their order.
func sorted(object map[string]json.RawMessage) (names []string) {
	for name := range object {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// isPlain reports whether a server serves HTTP without TLS: because of its port, or because Caddy makes no certificate for its sites.
func isPlain(s *caddyhttp.Server, app *caddyhttp.App) bool {
	if len(s.TLSConnPolicies) > 0 {
		return false
	}
	plainPort := app.HTTPPort
	if plainPort == 0 {
		plainPort = caddyhttp.DefaultHTTPPort
	}
	onlyPlain := !slices.ContainsFunc(s.Listen, func(address string) bool {
		_, port, err := net.SplitHostPort(address)
		return err != nil || port != fmt.Sprint(plainPort)
	})
	if onlyPlain || s.AutoHTTPS != nil && s.AutoHTTPS.Disabled {
		return true
	}
	for _, host := range hostsOf(s) {
		if s.AutoHTTPS == nil || !slices.Contains(s.AutoHTTPS.Skip, host) {
			return false
		}
	}
	return true
}

// hostsOf returns the names of a server's sites.
func hostsOf(s *caddyhttp.Server) (hosts []string) {
	for _, route := range s.Routes {
		for _, set := range route.MatcherSetsRaw {
			var names []string
			if json.Unmarshal(set["host"], &names) == nil {
				hosts = append(hosts, names...)
			}
		}
	}
	return hosts
}

// accessLogger is Caddy's name of the loggers of requests, errorLogger that of the logger of requests that failed.
const (
	accessLogger = "http.log.access"
	errorLogger  = "http.log.error"
)

// logsOf returns the logs that show requests to a server.
func logsOf(logging *caddy.Logging, server *caddyhttp.ServerLogConfig) (found []check.Log) {
	if server == nil {
		return nil // Caddy logs no requests of this server
	}
	var loggers []string
	for _, name := range slices.Concat([]string{server.DefaultLoggerName}, loggerNames(server)) {
		if name != "" {
			loggers = append(loggers, accessLogger+"."+name)
		}
	}
	if len(loggers) == 0 {
		loggers = []string{accessLogger}
	}
	logs := map[string]*caddy.CustomLog{}
	if logging != nil {
		logs = logging.Logs
	}
	names := []string{caddy.DefaultLoggerName}
	for name := range logs {
		if name != caddy.DefaultLoggerName {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		log := logs[name]
		if log == nil {
			log = new(caddy.CustomLog)
		}
		shows := slices.ContainsFunc(loggers, func(logger string) bool { return takes(log, logger) })
		if !shows && !takes(log, errorLogger) || isDiscarded(log) {
			continue
		}
		filtered := filteredFields(log.EncoderRaw)
		l := check.Log{Name: name, Errors: !shows, Query: !slices.ContainsFunc(filtered, func(f string) bool { return f == "request>uri" || f == "request" })}
		for _, header := range access.PlainHeaders() {
			if !slices.ContainsFunc(filtered, func(f string) bool {
				return strings.EqualFold(f, "request>headers>"+header) || f == "request>headers" || f == "request"
			}) {
				l.Shown = append(l.Shown, header)
			}
		}
		found = append(found, l)
	}
	return found
}

func loggerNames(server *caddyhttp.ServerLogConfig) (names []string) {
	for _, list := range server.LoggerNames {
		names = append(names, list...)
	}
	return names
}

// takes reports whether a log gets what a logger writes.
func takes(log *caddy.CustomLog, logger string) bool {
	within := func(spaces []string) bool {
		return slices.ContainsFunc(spaces, func(space string) bool { return logger == space || strings.HasPrefix(logger, space+".") })
	}
	return (len(log.Include) == 0 || within(log.Include)) && !within(log.Exclude)
}

func isDiscarded(log *caddy.CustomLog) bool {
	var writer struct{ Output string }
	return json.Unmarshal(log.WriterRaw, &writer) == nil && writer.Output == "discard"
}

// filteredFields returns the fields that an encoder changes or leaves out.
func filteredFields(encoder json.RawMessage) (fields []string) {
	var e struct {
		Format string
		Fields map[string]json.RawMessage
		Wrap   json.RawMessage
	}
	if json.Unmarshal(encoder, &e) != nil {
		return nil
	}
	if e.Format == "filter" {
		fields = sorted(e.Fields)
	}
	return append(fields, filteredFields(e.Wrap)...)
}
