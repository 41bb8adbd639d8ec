// Small helpers to build and change the page. Text always goes in as text, never as HTML.

export const $ = (id) => document.getElementById(id);

// el returns a new element. Attributes that are false are left out; functions become listeners.
export function el(tag, attributes = {}, ...children) {
	const node = document.createElement(tag);
	for (const [name, value] of Object.entries(attributes)) {
		if (typeof value === "function") node.addEventListener(name, value);
		else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
	}
	node.append(...children.filter((child) => child != null));
	return node;
}

// setText changes a text only if it differs, so that what the reader has selected stays selected.
export function setText(node, text) {
	text = String(text);
	if (node.textContent !== text) node.textContent = text;
}

// keep makes the children of a node those of a list, in its order. Each item has an element of its own, which is made once and then updated.
export function keep(parent, items, key, make, update) {
	const known = parent.kept ??= new Map();
	const seen = new Set();
	let at = parent.firstElementChild;
	for (const item of items) {
		const id = key(item);
		seen.add(id);
		let node = known.get(id);
		if (!node) {
			node = make(item);
			known.set(id, node);
		}
		update?.(node, item);
		if (node === at) at = at.nextElementSibling;
		else parent.insertBefore(node, at);
	}
	for (const [id, node] of known) {
		if (!seen.has(id)) {
			node.remove();
			known.delete(id);
		}
	}
}

// A bar shows a part of a whole.
export function bar(part) {
	const ns = "http://www.w3.org/2000/svg";
	const svg = document.createElementNS(ns, "svg");
	svg.setAttribute("class", "meter");
	svg.setAttribute("width", "100%");
	svg.setAttribute("height", "6");
	svg.setAttribute("aria-hidden", "true");
	const rect = document.createElementNS(ns, "rect");
	rect.setAttribute("height", "6");
	rect.setAttribute("rx", "3");
	rect.setAttribute("width", `${Math.max(0, Math.min(1, part)) * 100}%`);
	svg.append(rect);
	return svg;
}

// fact returns a name and a value, for a list of facts.
export const fact = (name, value) => value === "" || value == null ? null : el("div", {}, el("dt", {}, name), el("dd", {}, value));
