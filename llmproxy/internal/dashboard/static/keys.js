// Keys: an admin creates, rotates and revokes them.
import { $, el, setText } from "./dom.js";

let headers = {};

export function useKeys(withHeaders) { headers = withHeaders; }

// call sends a request about keys and returns the answer, or throws its error.
async function call(method, path, body) {
	const response = await fetch(`data/keys${path}`, {
		method, headers: { ...headers, "Content-Type": "application/json" }, cache: "no-store", body: body && JSON.stringify(body),
	});
	const answer = await response.json().catch(() => ({}));
	if (!response.ok) throw new Error(answer.error?.message ?? `Status ${response.status}`);
	return answer;
}

async function attempt(action) {
	setText($("keys-error"), "");
	try {
		await action();
	} catch (err) {
		setText($("keys-error"), err.message);
	}
}

export const showKeys = () => attempt(async () => {
	const list = await call("GET", "");
	const places = [...new Set(list.map((k) => k.kept_in))].filter((place) => place !== "configuration");
	$("key-place").hidden = places.length < 2;
	$("key-kept").replaceChildren(...places.map((place) => el("option", {}, place)));
	const rows = list.map((k) => el("tr", {},
		el("td", {}, el("b", {}, k.name), k.admin ? el("span", {}, " ", el("span", { class: "badge" }, "admin")) : ""),
		el("td", { "data-label": "Models" }, k.models?.join(" ") ?? ""),
		el("td", { "data-label": "Limits" }, [...(k.rate ?? []), ...(k.tokens ?? []), ...(k.budget ?? []), k.concurrent ? `${k.concurrent} at once` : ""].filter(Boolean).join(" ")),
		el("td", { "data-label": "Expires" }, k.expires ?? ""),
		el("td", { "data-label": "Stored in" }, k.kept_in),
		el("td", { class: "actions" }, ...(k.kept_in === "configuration" ? [] : [
			el("button", { type: "button", class: "quiet", "aria-label": `Rotate ${k.name}`, click: () => rotate(k) }, "Rotate"), " ",
			el("button", { type: "button", class: "quiet danger", "aria-label": `Revoke ${k.name}`, click: () => revoke(k) }, "Revoke")]))));
	$("key-list").replaceChildren(el("h2", {}, "All keys"), list.length === 0 ? el("p", { class: "empty" }, "There are no keys.") :
		el("table", { class: "folds" }, el("thead", {}, el("tr", {}, ...["Name", "Models", "Limits", "Expires", "Stored in"].map((name) => el("th", { scope: "col" }, name)), el("th", { scope: "col" }, el("span", { class: "unseen" }, "Actions")))), el("tbody", {}, ...rows)));
});

function showSecret(k, what) {
	const box = $("new-secret");
	const copy = el("button", { type: "button", class: "quiet", click: async () => {
		await navigator.clipboard?.writeText(k.plain_secret);
		setText(copy, "Copied");
	} }, "Copy");
	box.replaceChildren(el("p", {}, `${what} “${k.name}”. This is its secret. It is shown only once, and stored nowhere.`), el("code", {}, k.plain_secret),
		el("div", { class: "row" }, navigator.clipboard ? copy : null, el("button", { type: "button", class: "quiet", click: () => { box.hidden = true; box.replaceChildren(); } }, "Done")));
	box.hidden = false;
	box.scrollIntoView({ block: "nearest" });
}

const place = (k) => `?kept_in=${encodeURIComponent(k.kept_in)}`;

async function rotate(k) {
	if (!await confirmed(`Rotate the key “${k.name}”? Its old secret stops working at once.`, "Rotate")) return;
	await attempt(async () => showSecret(await call("POST", `/${encodeURIComponent(k.name)}/rotate${place(k)}`), "Rotated"));
}

async function revoke(k) {
	if (!await confirmed(`Revoke the key “${k.name}”? Its requests are refused from now on.`, "Revoke")) return;
	await attempt(async () => {
		await call("DELETE", `/${encodeURIComponent(k.name)}${place(k)}`);
		await showKeys();
	});
}

// confirmed asks the visitor and reports the answer.
function confirmed(question, yes) {
	const dialog = $("confirm");
	setText($("confirm-text"), question);
	setText($("confirm-yes"), yes);
	dialog.returnValue = "no";
	dialog.showModal();
	return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

$("create").addEventListener("submit", (event) => {
	event.preventDefault();
	attempt(async () => {
		const words = (id) => $(id).value.split(/[\s,]+/).filter(Boolean);
		const entry = { name: $("key-name").value.trim(), models: words("key-models"), rate: words("key-rate"), budget: words("key-budget"), expires: $("key-expires").value, admin: $("key-admin").checked };
		const created = await call("POST", $("key-place").hidden ? "" : place({ kept_in: $("key-kept").value }), entry);
		$("create").reset();
		await showKeys();
		showSecret(created, "Created");
	});
});
