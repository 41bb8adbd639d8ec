// How numbers, times and states are written.

export function seconds(s) {
	if (s == null) return "–";
	if (s < 0.0005) return "0 ms";
	if (s < 1) return `${Math.round(s * 1000)} ms`;
	if (s < 10) return `${s.toFixed(1)} s`;
	if (s < 90) return `${Math.round(s)} s`;
	if (s < 5400) return `${Math.round(s / 60)} min`;
	return `${Math.round(s / 3600)} h`;
}

export function count(n) {
	if (n < 10_000) return String(n);
	if (n < 1_000_000) return `${(n / 1000).toFixed(n < 100_000 ? 1 : 0)}k`;
	return `${(n / 1_000_000).toFixed(1)}M`;
}

export const rate = (n) => n === 0 ? "0" : n < 10 ? n.toFixed(1) : count(Math.round(n));

export function dollars(usd) {
	if (usd == null) return "–";
	if (usd === 0) return "$0";
	return usd < 0.01 ? `$${usd.toPrecision(2)}` : `$${usd.toFixed(usd < 1 ? 3 : 2)}`;
}

export const clock = (time) => new Date(time).toLocaleTimeString([], { hour12: false });

export const ago = (time) => `${seconds(Math.max(0, (Date.now() - new Date(time)) / 1000))} ago`;

export const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

// What states and verdicts mean, in a few words.
export const stateText = {
	up: "up", half_open: "being tried", loading: "loading", down: "down", open: "circuit breaker open", stuck: "stuck",
};
export const stateClass = { up: "good", half_open: "warn", loading: "warn", down: "bad", open: "bad", stuck: "bad" };

export const verdictText = {
	ok: "answered", unreachable: "unreachable", overloaded: "overloaded", unsupported: "not supported there", adjustable: "sent again with a change",
	misconfigured: "key or model is wrong there", client_error: "the request was refused", timeout: "timeout", failed: "failed", client_closed: "the client left",
};
export const verdictClass = (verdict) => verdict === "ok" ? "good" : ["failed", "timeout", "unreachable", "misconfigured"].includes(verdict) ? "bad" : "warn";
