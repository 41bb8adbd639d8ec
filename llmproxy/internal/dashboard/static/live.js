// The stream of events from the gateway. It is read with fetch, because an EventSource cannot send a key in a header.

// events calls on(name, data) with each event until the stream ends, and returns the status of the response.
export async function events(url, headers, signal, on) {
	const response = await fetch(url, { headers, signal, cache: "no-store" });
	if (!response.ok) return response.status;
	await eachEvent(response.body, (name, data) => on(name, JSON.parse(data)));
	return response.status;
}

// eachEvent reads server-sent events. It is enough for what the gateway sends: one line of data or several, and names.
export async function eachEvent(body, on) {
	const reader = body.pipeThrough(new TextDecoderStream()).getReader();
	let rest = "";
	for (;;) {
		const { value, done } = await reader.read();
		if (done) return;
		const parts = (rest + value).split(/\r?\n\r?\n/);
		rest = parts.pop();
		for (const part of parts) {
			let name = "message";
			const data = [];
			for (const line of part.split(/\r?\n/)) {
				if (line.startsWith("event:")) name = line.slice(6).trim();
				else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
			}
			if (data.length > 0) on(name, data.join("\n"));
		}
	}
}
