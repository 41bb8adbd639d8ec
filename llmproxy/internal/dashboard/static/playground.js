// The playground: a client of the gateway's own API, with the visitor's key.
import { $, el, fact, setText } from "./dom.js";
import { rate, seconds } from "./format.js";
import { eachEvent } from "./live.js";

let visitor, secret, running;

// usePlayground says who plays, and with which key.
export function usePlayground(who, key) {
	visitor = who;
	secret = key;
	$("own-key").hidden = Boolean(key);
}

const key = () => secret || $("play-secret").value;
const headers = () => key() ? { Authorization: `Bearer ${key()}` } : {};

// showModels fills the list of models with those that the key may use.
export async function showModels() {
	const select = $("model");
	try {
		const response = await fetch(`${visitor.api}/models`, { headers: headers() });
		const body = await response.json().catch(() => ({}));
		if (!response.ok) throw new Error(body.error?.message ?? `The API at ${visitor.api} answers with status ${response.status}.`);
		const before = select.value;
		select.replaceChildren(...body.data.map((m) => el("option", {}, m.id)));
		if (body.data.some((m) => m.id === before)) select.value = before;
		if ($("answer").dataset.error) setAnswer("");
	} catch (err) {
		select.replaceChildren();
		setAnswer(`The models cannot be listed: ${err.message}`, true);
	}
}

function setAnswer(text, isError) {
	const box = $("answer");
	box.replaceChildren(isError ? el("p", { class: "error" }, text) : text);
	if (isError) box.dataset.error = "yes";
	else delete box.dataset.error;
}

$("ask").addEventListener("submit", async (event) => {
	event.preventDefault();
	if (running) return;
	running = new AbortController();
	setAnswer("");
	$("answered").replaceChildren();
	$("send").disabled = true;
	$("stop").disabled = false;
	$("answer").classList.add("streaming");
	$("answer").setAttribute("aria-busy", "true"); // a screen reader reads the answer when it is complete
	try {
		await ask(running.signal);
	} catch (err) {
		$("answer").append(el("p", { class: err.name === "AbortError" ? "hint" : "error" }, err.name === "AbortError" ? "Stopped." : err.message));
	}
	running = null;
	$("answer").classList.remove("streaming");
	$("answer").removeAttribute("aria-busy");
	$("send").disabled = false;
	$("stop").disabled = true;
});

async function ask(signal) {
	const started = performance.now(), box = $("answer");
	const since = () => (performance.now() - started) / 1000;
	const response = await fetch(`${visitor.api}/chat/completions`, {
		method: "POST", signal, headers: { ...headers(), "Content-Type": "application/json" },
		body: JSON.stringify({ model: $("model").value, stream: true, stream_options: { include_usage: true }, messages: [{ role: "user", content: $("prompt").value }] }),
	});
	const facts = {
		"Answered by": response.headers.get("X-LLM-Target"), "Route": why(response.headers.get("X-LLM-Route"), $("model").value), "Attempts": response.headers.get("X-LLM-Attempts"),
		"Waited": wait(response.headers.get("X-LLM-Queue-Ms")), "Cache": response.headers.get("X-LLM-Cache"), "Request": response.headers.get("X-Request-Id"),
	};
	const show = () => $("answered").replaceChildren(...Object.entries(facts).map(([name, value]) => fact(name, value)).filter(Boolean));
	show();
	if (!response.ok) {
		const body = await response.json().catch(() => ({}));
		throw new Error(body.error?.message ?? `Status ${response.status}`);
	}
	let chunks = 0, first, usage, thought;
	await eachEvent(response.body, (_, data) => {
		if (data === "[DONE]") return;
		const chunk = JSON.parse(data);
		if (chunk.error) throw new Error(chunk.error.message);
		usage = chunk.usage ?? usage;
		const delta = chunk.choices?.[0]?.delta ?? {};
		const thinking = delta.reasoning_content ?? delta.reasoning;
		if (!thinking && !delta.content) return;
		if (first == null) facts["First token"] = seconds(first = since());
		chunks++;
		if (thinking) {
			if (!thought) box.append(thought = el("span", { class: "thought" }));
			thought.append(thinking);
		}
		if (delta.content) {
			if (thought && !thought.ended) {
				thought.ended = true;
				box.append("\n\n");
			}
			box.append(delta.content);
		}
		show();
	});
	box.normalize();
	facts["Total"] = seconds(since());
	if (usage) facts["Tokens"] = `${usage.prompt_tokens} in, ${usage.completion_tokens} out`;
	const output = usage?.completion_tokens ?? chunks;
	if (since() - first > 0.05 && output > 1) facts["Speed"] = `${rate((output - 1) / (since() - first))} tokens/s`;
	show();
}

const wait = (ms) => ms ? seconds(ms / 1000) : "";

// why says in words what the header X-LLM-Route means.
function why(route, model) {
	if (!route) return "";
	if (route === "spill") return "spill: the first choice was too busy";
	if (route.startsWith("fallback:")) return `${route}, so the next choice was asked`;
	return route === model ? `${route}, the model's first choice` : route;
}

$("stop").addEventListener("click", () => running?.abort());
$("play-secret").addEventListener("change", showModels);
$("prompt").addEventListener("keydown", (event) => {
	if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("ask").requestSubmit();
});
