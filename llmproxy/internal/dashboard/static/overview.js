// The overview: numbers at a glance, upstreams with their slots, and what was spent.
import { $, bar, el, fact, keep, setText } from "./dom.js";
import { addPoint } from "./charts.js";
import { ago, count, dollars, plural, rate, seconds, stateClass, stateText, verdictText } from "./format.js";

const mostDrawn = 64; // slots of a replica

// showStatus shows a snapshot. All says whether the visitor sees the requests of everybody.
export function showStatus(s, all) {
	const replicas = s.upstreams.flatMap((u) => u.replicas);
	// Upstreams may share an address, whose requests count once. A caller sees no addresses, but the IDs of its own requests.
	const sum = (of) => [...new Map(replicas.map((r) => [r.address, r])).values()].reduce((n, r) => n + of(r), 0);
	const own = (list) => new Set(replicas.flatMap(list).map((request) => request.id)).size;
	const streaming = sum((r) => r.streaming_tokens_per_second);
	const busy = all ? sum((r) => r.in_use) : own((r) => r.active);
	const waiting = all ? sum((r) => r.waiting) : own((r) => r.queue);
	const t = s.traffic;
	const over = `in the last ${t.window_seconds >= 60 ? "minute" : seconds(t.window_seconds)}`;

	setText($("tile-tokens"), rate(all ? streaming : t.tokens_per_second));
	setText($("note-tokens"), all ? `${rate(t.tokens_per_second)} ${over}` : over);
	setText($("tile-ttft"), seconds(t.ttft_p50_seconds));
	setText($("note-ttft"), t.ttft_p95_seconds == null ? `no streams ${over}` : `95 % within ${seconds(t.ttft_p95_seconds)}`);
	setText($("tile-progress"), busy);
	setText($("note-progress"), waiting > 0 ? `${waiting} waiting` : "none waiting");
	setText($("tile-requests"), t.requests);
	setText($("note-requests"), t.failed > 0 ? `${t.failed} failed ${over}` : over);
	showCache(s.cache, all);
	addPoint(new Date(s.at) / 1000, { tokens: all ? streaming : t.tokens_per_second, busy, waiting });

	keep($("upstreams"), s.upstreams, (u) => u.name, makeUpstream, (node, u) => updateUpstream(node, u, all));
	if (s.upstreams.length === 0) setText($("upstreams"), "No llm_proxy is configured in this Caddy.");
}

function showCache(c, all) {
	const served = c.hits + c.coalesced, asked = served + c.misses;
	setText($("tile-cache"), asked === 0 ? "–" : `${Math.round(100 * served / asked)} %`);
	let note = `${count(served)} of ${count(asked)} requests${all ? "" : " in the last minute"}`;
	if (!c.configured) note = "no cache is configured";
	setText($("note-cache"), note);
}

function makeUpstream() {
	return el("article", { class: "card upstream" }, el("header", {}, el("h3"), el("span", { class: "note" })), el("div", { class: "replicas" }));
}

function updateUpstream(node, u, all) {
	setText(node.querySelector("h3"), u.name);
	setText(node.querySelector(".note"), `${u.kind}, ${u.local ? "local" : "remote"}`);
	keep(node.querySelector(".replicas"), u.replicas, (r) => r.address, makeReplica, (at, r) => updateReplica(at, r, all, u));
}

function makeReplica() {
	return el("div", { class: "replica" },
		el("div", { class: "head" }, el("span", { class: "mono address" }), el("span", { class: "badge" })),
		el("ul", { class: "slots" }),
		el("ul", { class: "waiting", "aria-label": "Waiting requests" }),
		el("dl", { class: "facts" }));
}

function updateReplica(node, r, all, u) {
	setText(node.querySelector(".address"), all ? r.address : `replica ${r.address}`);
	const badge = node.querySelector(".badge");
	badge.className = `badge ${stateClass[r.state] ?? ""}`;
	setText(badge, r.verdict ? `${stateText[r.state]}: ${verdictText[r.verdict] ?? r.verdict}` : stateText[r.state] ?? r.state);

	const slots = node.querySelector("ul.slots");
	const limit = r.slots > 0 ? `${r.in_use} of ${r.slots} in use` : `${r.in_use} in use, no limit`;
	slots.setAttribute("aria-label", `Slots of ${u.name}: ${limit}`);
	const cells = slotsOf(r);
	slots.hidden = cells.length === 0;
	slots.classList.toggle("many", cells.length > 16);
	keep(slots, cells, (c) => c.id, (c) => el("li", {}, el("b"), el("span")), (cell, c) => {
		cell.className = `slot ${c.kind}`;
		setText(cell.firstChild, c.title);
		setText(cell.lastChild, c.text);
	});

	const queue = node.querySelector(".waiting");
	const shown = r.queue.slice(0, 12);
	const rest = (all ? r.waiting : r.queue.length) - shown.length;
	const items = shown.map((w) => ({ id: w.id, text: `${w.key ? `${w.key} · ` : ""}${w.model} · ${seconds(w.waited_seconds)}${w.wait_seconds == null ? "" : `, about ${seconds(w.wait_seconds)} more`}` }));
	if (rest > 0) items.push({ id: "rest", text: `${shown.length > 0 ? "and " : ""}${rest} ${shown.length > 0 ? "more" : "waiting"}` });
	queue.hidden = items.length === 0;
	keep(queue, items, (i) => i.id, () => el("li"), (item, i) => setText(item, i.text));

	const facts = [["Slots", limit]];
	if (r.foreign > 0) facts.push(["Others", plural(r.foreign, "request")]);
	if (all) facts.push(["Now", `${rate(r.streaming_tokens_per_second)} tokens/s`]);
	if (r.ttft_seconds != null) facts.push(["First token", seconds(r.ttft_seconds)]);
	if (r.models?.length) facts.push(["In memory", r.models.join(", ")]);
	if (r.hidden_models?.length) facts.push(["Hidden", r.hidden_models.join(", ")]);
	if (r.state !== "up" && r.since) facts.push(["Since", ago(r.since)]);
	keep(node.querySelector(".facts"), facts, (f) => f[0], (f) => fact(f[0], "…"), (item, f) => setText(item.lastChild, f[1]));
}

// slotsOf returns the slots to draw: those in use, those that other clients of the server use, and those that are free.
function slotsOf(r) {
	const cells = r.active.map((a) => ({
		id: a.id, kind: a.given_up ? "used left" : "used", title: a.model || "request", text: `${a.given_up ? "left" : a.key || "no key"} · ${seconds(a.for_seconds)}`,
	}));
	for (let i = cells.length; i < Math.min(r.in_use, mostDrawn); i++) cells.push({ id: `used ${i}`, kind: "used", title: "in use", text: "" });
	for (let i = 0; i < r.foreign && cells.length < mostDrawn; i++) cells.push({ id: `foreign ${i}`, kind: "foreign", title: "in use", text: "by another client" });
	for (let i = 0; cells.length < Math.min(r.slots, mostDrawn); i++) cells.push({ id: `free ${i}`, kind: "free", title: "free", text: "" });
	return cells;
}

// showSpend shows what was spent today.
export function showSpend(s) {
	const total = s.spend_today.reduce((n, k) => n + k.usd, 0);
	const unpriced = s.spend_today.reduce((n, k) => n + k.unpriced, 0);
	setText($("tile-spend"), dollars(total));
	setText($("note-spend"), unpriced > 0 ? `${plural(unpriced, "request")} without a price` : "UTC, from 0:00");
	const most = Math.max(...s.spend_today.map((k) => k.usd), 0) || 1;
	const box = $("spend");
	if (s.spend_error) box.replaceChildren(el("p", { class: "error" }, s.spend_error));
	else if (s.spend_today.length === 0) box.replaceChildren(el("p", { class: "empty" }, "Nothing was used today."));
	else {
		box.replaceChildren(el("table", { class: "folds" },
			el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Key"), ...["Requests", "Input tokens", "Output tokens", "Cost"].map((name) => el("th", { scope: "col", class: "number" }, name)))),
			el("tbody", {}, ...s.spend_today.map((k) => el("tr", {},
				el("td", {}, el("b", {}, k.key || "without a key"), bar(k.usd / most)),
				el("td", { class: "number", "data-label": "Requests" }, count(k.requests)),
				el("td", { class: "number", "data-label": "Input" }, count(k.input_tokens)),
				el("td", { class: "number", "data-label": "Output" }, count(k.output_tokens)),
				el("td", { class: "number", "data-label": "Cost" }, k.unpriced === k.requests ? "unknown" : dollars(k.usd)))))));
	}
}

// showQuota shows what is left of a caller's limits.
export function showQuota(quota) {
	const limits = quota?.limits ?? [];
	$("quota").hidden = limits.length === 0;
	$("quota-list").replaceChildren(el("table", {}, el("thead", { class: "unseen" }, el("tr", {}, el("th", {}, "Limit"), el("th", {}, "Left"))),
		el("tbody", {}, ...limits.map((l) => el("tr", {}, el("td", {}, l.rule, bar(l.left / l.limit)), el("td", { class: "number" }, `${l.unit === "usd" ? dollars(l.left) : count(l.left)} left of ${l.unit === "usd" ? dollars(l.limit) : count(l.limit)}`))))));
}
