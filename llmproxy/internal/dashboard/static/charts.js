// The two charts. They show what arrived while the page was open, at most ten minutes.
import uPlot from "./uplot/uPlot.esm.js";
import { $ } from "./dom.js";

const most = 1200; // points: ten minutes of two a second
const times = [], tokens = [], busy = [], waiting = [];
let plots = [];

export function addPoint(at, values) {
	times.push(at);
	tokens.push(values.tokens);
	busy.push(values.busy);
	waiting.push(values.waiting);
	for (const list of [times, tokens, busy, waiting]) while (list.length > most) list.shift();
	draw();
}

// points returns how many points are kept.
export const points = () => times.length;

function draw() {
	if (plots.length === 0) return;
	const now = times.at(-1);
	const range = { min: Math.min(times[0], now - 60), max: now };
	[[times, tokens], [times, busy, waiting]].forEach((data, i) => {
		plots[i].setData(data, false);
		plots[i].setScale("x", range);
	});
}

const color = (name) => getComputedStyle(probe(name)).color;

// probe returns an element that has a color of the theme: a custom property itself may be a function of the theme.
function probe(name) {
	const node = document.createElement("span");
	node.style.color = `var(${name})`;
	node.hidden = true;
	$("main").append(node);
	queueMicrotask(() => node.remove());
	return node;
}

function axes(unit) {
	const line = { stroke: color("--line"), width: 1 };
	const text = { stroke: color("--soft"), font: "12px system-ui", ticks: { show: false } };
	return [
		{ ...text, grid: { show: false }, size: 28, values: (_, at) => at.map((t) => new Date(t * 1000).toLocaleTimeString([], { hour12: false, minute: "2-digit", second: "2-digit" })), space: 70 },
		{ ...text, grid: line, size: 42, incrs: unit === "whole" ? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] : undefined },
	];
}

const series = (label, name, fill) => ({ label, stroke: color(name), width: 2, points: { show: false }, fill: fill && color(fill) });

// show makes the charts anew, in the colors of the theme and the width of the page.
export function showCharts() {
	plots.forEach((plot) => plot.destroy());
	plots = [];
	const make = (id, unit, ...lines) => {
		const node = $(id);
		if (node.clientWidth === 0) return;
		const empty = [times, ...lines.map(() => [])];
		plots.push(new uPlot({
			width: node.clientWidth, height: 170, legend: { show: false }, cursor: { y: false, points: { size: 7 } }, padding: [8, 8, 0, 0],
			scales: { x: { time: true }, y: { range: (_, min, max) => [0, Math.max(unit === "whole" ? 4 : 10, max * 1.15 || 0)] } },
			axes: axes(unit), series: [{}, ...lines],
		}, empty, node));
	};
	make("chart-tokens", "any", series("tokens/s", "--accent", "--wash"));
	make("chart-load", "whole", series("in progress", "--accent", "--wash"), series("waiting", "--second"));
	if (plots.length === 2 && times.length > 0) draw();
	else if (plots.length < 2) {
		plots.forEach((plot) => plot.destroy());
		plots = [];
	}
}
