package openai

// CountTokens is the endpoint of Anthropic's API that counts the tokens of a prompt.
var CountTokens = &Endpoint{Name: "count_tokens", Path: "/messages/count_tokens", CountsOnly: true, Foreign: true}

// Messages is the endpoint of Anthropic's API that generates.
var Messages = &Endpoint{Name: "messages", Path: "/messages", Texts: true, Foreign: true}
