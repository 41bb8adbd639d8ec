// The page: signing in, the live connection, and which part is shown.
//
// The key stays in a variable of this file. It is sent in the header Authorization, so that no other site can use it, and it is gone
// when the page is closed.
import { $, setText } from "./dom.js";
import { points, showCharts } from "./charts.js";
import { events } from "./live.js";
import { showKeys, useKeys } from "./keys.js";
import { showQuota, showSpend, showStatus } from "./overview.js";
import { showModels, usePlayground } from "./playground.js";
import { addRequests, forgetRequests, showRequests, size } from "./requests.js";

const pages = ["overview", "requests", "playground", "keys"];
let visitor, secret = "", connection;

const headers = () => secret ? { Authorization: `Bearer ${secret}` } : {};

// signIn asks the gateway who we are. Without a key, Caddy may know us, or need to know nobody.
async function signIn() {
	const response = await fetch("data/me", { headers: headers(), cache: "no-store" });
	const body = await response.json().catch(() => ({}));
	if (!response.ok) throw new Error(body.error?.message ?? `Status ${response.status}`);
	visitor = body;
	$("sign-in").hidden = true;
	$("nav").hidden = false;
	$("keys-link").hidden = !visitor.admin;
	$("sign-out").hidden = !secret;
	setText($("visitor"), visitor.name ? `${visitor.name}${visitor.admin ? " (admin)" : ""}` : "");
	showQuota(visitor.quota);
	usePlayground(visitor, secret);
	useKeys(headers());
	connect();
	showPage();
}

function showSignIn(message) {
	connection?.abort();
	visitor = null;
	secret = "";
	for (const id of [...pages, "nav", "live", "sign-out"]) $(id).hidden = true;
	setText($("visitor"), "");
	$("new-secret").hidden = true;
	$("new-secret").replaceChildren();
	$("key-list").replaceChildren();
	forgetRequests();
	setText($("sign-in-error"), message ?? "");
	$("sign-in").hidden = false;
	$("secret").value = "";
	$("secret").focus();
}

// connect follows the events until we sign out. After a reload of Caddy it connects again.
async function connect() {
	connection?.abort();
	const mine = connection = new AbortController();
	for (let pause = 500; !mine.signal.aborted; pause = Math.min(2 * pause, 10_000)) {
		let first = true; // a connection begins with all requests; after a restart, they are counted anew
		try {
			const status = await events("data/events", headers(), mine.signal, (name, data) => {
				pause = 500;
				setLive(true);
				if (name === "status") {
					showStatus(data, visitor.sees === "all");
					if (first) forgetRequests();
					first = false;
					addRequests(data.requests);
				} else if (name === "spend") showSpend(data);
				else if (name === "signed_out") showSignIn("You are signed out, because the key is not valid any more.");
			});
			if (status === 401 && !mine.signal.aborted) return showSignIn("You are signed out, because the key is not valid any more.");
		} catch (err) {
			if (mine.signal.aborted) return;
		}
		if (mine.signal.aborted) return;
		setLive(false);
		await new Promise((resolve) => setTimeout(resolve, pause));
	}
}

function setLive(connected) {
	const live = $("live");
	live.hidden = false;
	live.classList.toggle("lost", !connected);
	setText(live, connected ? "live" : "connecting …");
}

// showPage shows the part of the page that the address names.
function showPage() {
	if (!visitor) return;
	let page = location.hash.slice(1);
	if (!pages.includes(page) || page === "keys" && !visitor.admin) page = "overview";
	for (const name of pages) $(name).hidden = name !== page;
	for (const link of $("nav").querySelectorAll("a")) {
		if (link.hash === `#${page}`) link.setAttribute("aria-current", "page");
		else link.removeAttribute("aria-current");
	}
	scrollTo(0, 0);
	if (page === "overview") showCharts();
	if (page === "requests") showRequests();
	if (page === "playground") showModels();
	if (page === "keys") showKeys();
}

function useTheme(theme) {
	if (theme) document.documentElement.dataset.theme = theme;
	if (visitor && !$("overview").hidden) showCharts();
}

$("theme").addEventListener("click", () => {
	const dark = matchMedia("(prefers-color-scheme: dark)").matches;
	const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
	const next = now === "dark" ? "light" : "dark";
	localStorage.setItem("llm_dashboard_theme", next);
	useTheme(next);
});
$("sign-in-form").addEventListener("submit", async (event) => {
	event.preventDefault();
	secret = $("secret").value.trim();
	setText($("sign-in-error"), "");
	try {
		await signIn();
		$("secret").value = "";
		$("main").focus();
	} catch (err) {
		showSignIn(err.message);
	}
});
$("sign-out").addEventListener("click", () => showSignIn());
document.querySelector(".skip").addEventListener("click", (event) => {
	event.preventDefault();
	$("main").focus();
});
addEventListener("hashchange", showPage);
addEventListener("resize", () => useTheme());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => useTheme());

useTheme(localStorage.getItem("llm_dashboard_theme"));
// How much the page keeps, for those who wonder whether it grows.
globalThis.llmDashboard = { size: () => ({ ...size(), points: points() }) };
signIn().catch((err) => showSignIn(err.message.startsWith("Sign in") ? "" : err.message)); // it may be that nobody can
