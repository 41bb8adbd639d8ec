// Package litellm converts a configuration of LiteLLM's proxy, config.yaml, into a Caddyfile. It decides what each of LiteLLM's settings
// is here, and reports every setting that is not carried over, or not exactly.
//
// It runs nothing, reads no file but through the function that it is given, and asks no server. Secrets that are written in the YAML leave
// it in one place only, Result.Secrets: never in the Caddyfile, an error or a note. It stands on upstream and keys, whose kinds and digests it uses,
// and on draft, which writes Caddyfiles.
//
// The way through: load reads the YAML and what it includes (source.go), newDeployments reads the list of models, each deployment by its
// service (deployment.go, service.go), newUpstreams joins the deployments that have everything but the model in common (upstreams.go),
// newModels makes the names and their pools (models.go), and write writes all of it, with the rest of the settings (site.go, cache.go). rules.go
// has the table of LiteLLM's keys, by which section.go reports what became of each.
package litellm

import (
	"cmp"
	"slices"
	"strings"
)

// Options are what the YAML does not say.
type Options struct {
	// File is the name of the configuration. Included files are relative to its folder.
	File string
	// Read returns the content of a file.
	Read func(name string) ([]byte, error)
	// Site is the address of the site.
	Site string
}

// DefaultSite is where LiteLLM listens by default.
const DefaultSite = ":4000"

// Convert converts a configuration. Mistakes in the YAML are errors of type *Error.
func Convert(o Options) (*Result, error) {
	root, replaced, err := load(o.File, o.Read)
	if err != nil {
		return nil, err
	}
	c := &converter{at: root.at, noted: map[Note]bool{}, names: map[string]bool{}, secretNames: map[string]string{}}
	for _, f := range replaced {
		c.noteAt(f.at, f.key, Ignored, "another value of the same name follows, and only the last one counts, as in LiteLLM")
	}
	root.each(func(v *value) {
		for _, m := range environ.FindAllStringSubmatch(v.text, -1) {
			c.names[m[1]] = true // no secret may be expected in a variable that has another value
		}
	})
	config := c.section(root, "", "")
	s := newSettings(c, config)
	deployments := c.newDeployments(config, s)
	upstreams := c.newUpstreams(deployments, s)
	models := c.newModels(deployments, s)
	file := c.write(cmp.Or(o.Site, DefaultSite), upstreams, models, s)
	body := file.String()
	c.variables(config, body)
	c.reportRest()
	slices.SortStableFunc(c.result.Notes, func(a, b Note) int { return a.At.compare(b.At) })
	slices.SortStableFunc(c.result.Keys, func(a, b Key) int { return a.At.compare(b.At) })
	c.result.Caddyfile = c.head(o.File, body) + body
	return &c.result, nil
}

// variables asks for the variables that the YAML sets and the Caddyfile needs. The others are reported.
func (c *converter) variables(config *section, caddyfile string) {
	v := config.take("environment_variables")
	if v == nil {
		return
	}
	var unused []string
	for _, f := range v.fields {
		if !strings.Contains(caddyfile, "{env."+f.key+"}") {
			unused = append(unused, plainName(f.key))
			continue
		}
		c.result.Secrets = append(c.result.Secrets, Secret{At: f.at, Key: "environment_variables." + f.key, Name: f.key, Value: f.value.text})
	}
	if unused != nil {
		c.note(config, "environment_variables", Ignored, "the Caddyfile needs no %s", strings.Join(unused, ", "))
	}
}
