package openai

// CountTokens is the endpoint of Anthropic's API that counts the tokens of a prompt.
var CountTokens = &Endpoint{Name: "count_tokens", Path: "/messages/count_tokens", CountsOnly: true, Foreign: true}

// InputTokens is the endpoint beside OpenAI's Responses API that counts the tokens of a request.
var InputTokens = &Endpoint{Name: "responses_input_tokens", Path: "/responses/input_tokens", CountsOnly: true}

// Tokenize is the endpoint of vLLM and llama.cpp that makes tokens of a text or, at vLLM, of a conversation.
var Tokenize = &Endpoint{Name: "tokenize", Path: "/tokenize", CountsOnly: true}

// Messages is the endpoint of Anthropic's API that generates.
var Messages = &Endpoint{Name: "messages", Path: "/messages", Texts: true, Foreign: true}
