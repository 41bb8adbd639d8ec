// The latest requests, with their attempts. The page keeps as many as the gateway shows: 200.
import { $, el, fact, keep } from "./dom.js";
import { clock, count, dollars, seconds, verdictClass, verdictText } from "./format.js";

const most = 200;
let requests = [];

// addRequests adds those that are new; the latest comes first.
export function addRequests(list) {
	const newest = requests[0]?.number ?? 0;
	const fresh = list.filter((r) => r.number > newest);
	if (fresh.length === 0) return;
	requests = [...fresh, ...requests].slice(0, most);
	if (!$("requests").hidden) showRequests();
}

export function forgetRequests() {
	requests = [];
	showRequests();
}

// size returns how many requests the page keeps, and the number of the newest one.
export const size = () => ({ requests: requests.length, newest: requests[0]?.number ?? 0 });

const hasFailure = (r) => r.status >= 400 || r.verdict !== "ok" || r.attempts.some((a) => a.verdict !== "ok");

export function showRequests() {
	const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
	const shown = requests.filter((r) => {
		if ($("only-failed").checked && !hasFailure(r)) return false;
		const text = [r.id, r.key, r.model, r.target, r.route, r.status, r.verdict, r.error, r.endpoint, r.cache].join(" ").toLowerCase();
		return words.every((word) => text.includes(word));
	});
	const list = $("request-list");
	if (shown.length === 0 && !list.querySelector(".empty")) list.append(el("p", { class: "empty" }, requests.length === 0 ? "No requests yet." : "No request matches."));
	else if (shown.length > 0) list.querySelector(".empty")?.remove();
	keep(list, shown, (r) => r.number, makeRequest);
}

function makeRequest(r) {
	const details = el("details", { class: "request" }, el("summary", {},
		el("span", { class: "soft" }, clock(r.started)),
		el("span", { class: "cut" }, el("b", {}, r.model || "–"), el("span", { class: "soft" }, r.key ? ` ${r.key}` : "")),
		el("span", { class: "cut where soft" }, r.target ? `→ ${r.target}` : "", how(r)),
		el("span", { class: "result" }, el("span", { class: `badge ${resultClass(r)}` }, r.error ? `${r.status} ${r.error}` : r.verdict === "ok" ? `${r.status}` : `${r.status} ${r.verdict}`)),
		el("span", { class: "numbers" },
			el("span", { title: "time to first token" }, r.ttft_seconds > 0 ? seconds(r.ttft_seconds) : "–"),
			el("span", { title: "duration" }, seconds(r.duration_seconds)),
			el("span", { title: "output tokens" }, `${count(r.output_tokens)} tokens`)),
		el("span", { class: "tries", role: "img", "aria-label": attemptsLabel(r) }, ...r.attempts.map((a) => el("i", { class: verdictClass(a.verdict) })))));
	// Most are never opened, so the details are built when one is.
	details.addEventListener("toggle", () => { if (details.open && details.children.length === 1) details.append(makeDetail(r)); });
	return details;
}

// how says how the target came to answer, if it was not the first choice.
function how(r) {
	if (r.cache === "hit" || r.cache === "coalesced") return ` (cache: ${r.cache})`;
	return r.route === "spill" || r.route?.startsWith("fallback:") ? ` (${r.route})` : "";
}

const attemptsLabel = (r) => r.attempts.length === 0 ? "no attempt" : `attempts: ${r.attempts.map((a) => a.verdict).join(", ")}`;

function resultClass(r) {
	if (r.status < 400 && r.verdict === "ok") return "good";
	return r.status >= 500 || ["failed", "timeout"].includes(r.verdict) ? "bad" : "warn";
}

function makeDetail(r) {
	return el("div", { class: "detail" },
		el("dl", { class: "facts" },
			fact("ID", r.id), fact("Endpoint", r.endpoint), fact("Stream", r.stream ? "yes" : "no"), fact("Route", r.route), fact("Cache", r.cache),
			fact("Waited", r.queue_seconds > 0 ? seconds(r.queue_seconds) : ""), fact("Input", `${count(r.input_tokens)} tokens`),
			fact("Cached", r.cached_tokens > 0 ? count(r.cached_tokens) : ""), fact("Output", `${count(r.output_tokens)} tokens`), fact("Cost", r.usd == null ? "unknown" : dollars(r.usd))),
		r.attempts.length === 0 ? el("p", { class: "empty" }, "No upstream was asked.") :
			el("ol", {}, ...r.attempts.map((a, i) => el("li", {},
				el("span", {}, `${i + 1}.`),
				el("span", {}, el("b", {}, a.target), el("span", { class: "soft" }, a.address ? ` at ${a.address}, ` : " "), el("span", { class: "soft" }, seconds(a.duration_seconds))),
				el("span", { class: `badge ${verdictClass(a.verdict)}` }, `${a.status ? `${a.status} ` : ""}${verdictText[a.verdict] ?? a.verdict}`)))));
}

$("filter").addEventListener("input", showRequests);
$("only-failed").addEventListener("change", showRequests);
