package catalog

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// A messagesModel is a model as Anthropic's API describes it.
type messagesModel struct {
	Type           string `json:"type"`
	ID             string `json:"id"`
	DisplayName    string `json:"display_name"`
	CreatedAt      string `json:"created_at"`
	MaxInputTokens int    `json:"max_input_tokens,omitempty"`
	MaxTokens      int    `json:"max_tokens,omitempty"`
}

// The page of a list that has no limit, and the largest one.
const (
	usualPage   = 20
	largestPage = 1000
)

// ListMessagesModels is ListModels in the format of Anthropic's API, which returns a list page by page.
func (c *Catalog) ListMessagesModels(ctx context.Context, id string, page url.Values, localOnly bool, may func(model string) bool) ([]byte, *openai.Error) {
	models := []messagesModel{}
	for _, e := range c.entries(ctx, localOnly, may) {
		models = append(models, messagesModel{
			Type: "model", ID: e.ID, DisplayName: e.ID, CreatedAt: time.Unix(e.Created, 0).UTC().Format(time.RFC3339),
			MaxInputTokens: e.ContextWindow, MaxTokens: e.MaxOutput,
		})
	}
	if id != "" {
		i := slices.IndexFunc(models, func(m messagesModel) bool { return m.ID == id })
		if i < 0 {
			return nil, exchange.ModelNotFound(id)
		}
		return encode(models[i])
	}
	models, more := paged(models, page)
	answer := map[string]any{"data": models, "has_more": more, "first_id": nil, "last_id": nil}
	if n := len(models); n > 0 {
		answer["first_id"], answer["last_id"] = models[0].ID, models[n-1].ID
	}
	return encode(answer)
}

// paged returns the page of a list that a query asks for: limit models after after_id, or before before_id.
func paged(models []messagesModel, query url.Values) (page []messagesModel, more bool) {
	limit, err := strconv.Atoi(query.Get("limit"))
	if err != nil || limit < 1 {
		limit = usualPage
	}
	limit = min(limit, largestPage)
	index := func(id string) int {
		return slices.IndexFunc(models, func(m messagesModel) bool { return m.ID == id })
	}
	if i := index(query.Get("before_id")); i >= 0 {
		return models[max(0, i-limit):i], i > limit
	}
	models = models[index(query.Get("after_id"))+1:]
	return models[:min(limit, len(models))], len(models) > limit
}
