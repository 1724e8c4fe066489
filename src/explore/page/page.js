"use strict";
/* The trace is drawn once; stepping changes classes, the panel and nothing else. */
const data = JSON.parse(document.getElementById("data").textContent);
const trace = data.trace, steps = trace.steps, columns = trace.columns;
const $ = (id) => document.getElementById(id);
let current = 0; /* steps done */
let quiet = false;

function make(tag, cls, text) {
	const e = document.createElement(tag);
	if (cls) e.className = cls;
	if (text !== undefined) e.textContent = text;
	return e;
}

/* ---- state after each step ---- */

const states = [trace.watches.map((w) => w.start)];
for (const s of steps) {
	const now = states[states.length - 1].slice();
	for (const c of s.changes) now[c.watch] = c.value;
	states.push(now);
}

const shown = () => steps.filter((s) => quiet || !s.dull);
const lane = (column) => "var(--lane" + (column % 6) + ")";

/* ---- head ---- */

function drawHead() {
	const head = make("div", "words"), h1 = make("h1", "", data.scenario);
	$("head").append(head);
	h1.append(make("small", "", data.title));
	head.append(h1);
	for (const m of data.off) {
		const d = make("div", "switch");
		d.append("switched off: ", make("b", "", m.name), ". Without it: " + m.text + "."
			+ (m.commit !== "-" ? " Linux commit " + m.commit + "." : ""));
		head.append(d);
	}
	const good = !trace.message;
	head.append(make("div", "verdict" + (good ? " good" : ""),
		good ? "One run of many; nothing is violated in it." : "VIOLATION: " + trace.message));
	document.title = data.scenario + " - quire explore";
	if (!data.picture) return;
	const box = make("div", "picture");
	box.append(make("h2", "", "the race in short"), make("pre", "", data.picture.replace(/\n+$/, "")));
	$("head").append(box);
}

/* ---- the timeline ---- */

function stepCard(s) {
	const card = make("div", "step");
	const actor = trace.actors[s.actor];
	card.style.setProperty("--lane", lane(s.column));
	card.style.gridColumn = s.column + 2;
	if (s.dull) card.classList.add("dull");
	if (actor.agent) card.classList.add("agent");
	if (s.choice !== undefined) card.classList.add("choice");
	if (actor.agent && actor.name.endsWith("irq")) card.append(make("span", "tag", "IRQ"));
	if (s.choice !== undefined) card.append(make("span", "tag", "CHOICE"));
	if (s.notes.length) {
		s.notes.forEach((n, i) => card.append(i ? make("br") : "", n));
	} else {
		card.append(s.text);
	}
	if (s.where && s.notes.length) card.append(make("span", "where", s.where + "()"));
	card.title = "step " + s.n + ": " + actor.name + ": " + s.what + (s.where ? ", in " + s.where + "()" : "");
	return card;
}

function deltaCell(s) {
	const cell = make("div", "delta");
	const before = states[s.n - 1];
	cell.style.gridColumn = columns.length + 2;
	for (const c of s.changes) {
		const w = trace.watches[c.watch], line = make("div");
		line.append(make("span", "key", w.group + " " + w.name + "  "),
			make("ins", "", c.text.replaceAll("->", "\u2192")));
		line.title = before[c.watch] + " \u2192 " + c.value;
		cell.append(line);
	}
	return cell;
}

function drawLanes() {
	const box = $("lanes"), grid = make("div");
	box.textContent = "";
	grid.id = "grid";
	grid.style.gridTemplateColumns = "30px repeat(" + columns.length + ", minmax(150px, 1.25fr)) minmax(150px, 1fr)";
	grid.append(make("div"));
	columns.forEach((c, i) => {
		const h = make("div", "lane-head", c.title);
		h.append(make("small", "", c.unit));
		h.style.setProperty("--lane", lane(i));
		grid.append(h);
	});
	grid.append(make("div", "lane-head changes", "what changes"));
	const list = shown();
	columns.forEach((c, i) => {
		const line = make("div", "lane-line");
		line.style.gridColumn = i + 2;
		line.style.gridRow = "2 / " + (list.length + 3);
		grid.append(line);
	});
	list.forEach((s, i) => {
		const num = make("div", "num", s.n), card = stepCard(s), delta = deltaCell(s);
		for (const e of [num, card, delta]) {
			e.style.gridRow = i + 2;
			e.dataset.step = s.n;
			e.addEventListener("click", () => go(s.n));
		}
		num.style.gridColumn = 1;
		grid.append(num, card, delta);
	});
	const end = make("div", "end" + (trace.message ? "" : " good"),
		trace.message || "The run ends; every check holds.");
	end.style.gridRow = list.length + 2;
	end.dataset.step = steps.length;
	grid.append(end);
	box.append(grid);
	const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
	svg.id = "arrows";
	box.append(svg);
	drawArrows();
}

/* ---- arrows: who hands over to whom ---- */

const unitOf = (s) => columns[s.column].unit;

/* An interrupt is asked for, taken by the unit's agent, and its end is told to who asked. */
function interrupts() {
	const found = [], asked = new Map(), served = new Map();
	const pass = (map, key, s, text) => {
		const from = map.get(key);
		if (from && from.column !== s.column) found.push({from, to: s, cls: "irq", text});
		map.delete(key);
	};
	for (const s of steps) {
		for (const note of s.notes) {
			let m = /^interrupts ([^\s:]+)/.exec(note);
			if (m) asked.set(m[1] + " for " + unitOf(s), s);
			m = /^takes the interrupt of ([^\s;]+)/.exec(note);
			if (m) {
				pass(asked, unitOf(s) + " for " + m[1], s, "interrupt");
				served.set(unitOf(s) + " for " + m[1], s);
			}
			m = /([^\s]+) has flushed/.exec(note);
			if (m) pass(served, m[1] + " for " + unitOf(s), s, "ack");
		}
	}
	return found;
}

/* From the release of a lock to the next one who takes it. */
function handovers() {
	const found = [], released = new Map();
	for (const s of steps) {
		const m = /^(unlock|lock) (\S+)/.exec(s.what);
		if (!m) continue;
		const key = m[2] + (s.object || "");
		if (m[1] === "unlock") {
			released.set(key, s);
		} else if (!s.dull && released.has(key)) {
			const from = released.get(key);
			if (from.actor !== s.actor) found.push({from, to: s, cls: "hand", text: m[2]});
			released.delete(key);
		}
	}
	return found;
}

const cards = () => {
	const map = new Map();
	document.querySelectorAll(".step").forEach((e) => map.set(+e.dataset.step, e));
	return map;
};

/* The card of a step, or of the last one shown before it in its lane. */
function cardAt(map, s) {
	for (let n = s.n; n >= 1; n--)
		if (steps[n - 1].column === s.column && map.has(n)) return map.get(n);
	return null;
}

function line(svg, a, b, cls, text) {
	const base = svg.getBoundingClientRect();
	const ra = a.getBoundingClientRect(), rb = b.getBoundingClientRect();
	const right = rb.left > ra.left, same = Math.abs(rb.left - ra.left) < 2;
	const x1 = (same ? ra.left : right ? ra.right : ra.left) - base.left;
	const x2 = (same ? rb.left : right ? rb.left : rb.right) - base.left;
	const y1 = ra.top + ra.height / 2 - base.top, y2 = rb.top + rb.height / 2 - base.top;
	const path = document.createElementNS(svg.namespaceURI, "path");
	const bend = same ? -16 : right ? 14 : -14;
	path.setAttribute("d", "M" + x1 + " " + y1 + " C" + (x1 + bend) + " " + y1 + " "
		+ (x2 + (same ? bend : -bend)) + " " + y2 + " " + x2 + " " + y2);
	path.setAttribute("class", cls);
	if (cls.startsWith("irq")) path.setAttribute("marker-end", "url(#tip)");
	if (cls.startsWith("hand")) path.setAttribute("marker-end", "url(#tip-hand)");
	svg.append(path);
	if (!text) return;
	const t = document.createElementNS(svg.namespaceURI, "text");
	t.setAttribute("x", (x1 + x2) / 2);
	t.setAttribute("y", (y1 + y2) / 2 - 4);
	t.setAttribute("text-anchor", "middle");
	t.setAttribute("class", cls);
	t.textContent = text;
	svg.append(t);
}

function drawArrows() {
	const svg = $("arrows"), map = cards(), list = shown();
	svg.innerHTML = '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
		+ 'markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z"/></marker>'
		+ '<marker id="tip-hand" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
		+ 'markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z"/></marker></defs>';
	for (let i = 1; i < list.length; i++) {
		const a = list[i - 1], b = list[i];
		if (a.column !== b.column)
			line(svg, map.get(a.n), map.get(b.n), b.preempts ? "flow preempts" : "flow");
	}
	for (const f of [...handovers(), ...interrupts()]) {
		const a = cardAt(map, f.from), b = cardAt(map, f.to);
		if (a && b && a !== b) line(svg, a, b, f.cls, f.text);
	}
	drawLocks(map);
}

/* ---- locks held: bars along the lane ---- */

function locksHeld() {
	const open = [], all = [];
	for (const s of steps) {
		const m = /^(unlock|lock) (\S+)/.exec(s.what);
		if (!m) continue;
		if (m[1] === "lock") {
			const held = {actor: s.actor, column: s.column, name: m[2], obj: s.object, from: s.n, to: steps.length};
			open.push(held);
			if (!s.dull) all.push(held);
			continue;
		}
		for (let i = open.length - 1; i >= 0; i--) {
			if (open[i].actor === s.actor && open[i].name === m[2] && open[i].obj === s.object) {
				open.splice(i, 1)[0].to = s.n;
				break;
			}
		}
	}
	return all;
}

function drawLocks(map) {
	const box = $("lanes"), base = box.getBoundingClientRect(), used = [];
	if (!steps.some((s) => /^unlock /.test(s.what))) return;
	box.querySelectorAll(".lockbar").forEach((e) => e.remove());
	for (const l of locksHeld()) {
		const own = [...map.entries()].filter(([n]) => steps[n - 1].column === l.column && n >= l.from && n <= l.to);
		if (!own.length) continue;
		const a = own[0][1].getBoundingClientRect(), b = own[own.length - 1][1].getBoundingClientRect();
		let depth = 0;
		while (used.some((u) => u.column === l.column && u.depth === depth && u.from <= l.to && l.from <= u.to)) depth++;
		used.push({column: l.column, depth, from: l.from, to: l.to});
		if (depth > 2) continue;
		const bar = make("div", "lockbar");
		bar.style.cssText = "left:" + (a.left - base.left - 7 - depth * 6) + "px;top:" + (a.top - base.top)
			+ "px;height:" + (b.bottom - a.top) + "px;background:" + lane(l.column);
		bar.title = "holds " + l.name + ", steps " + l.from + " to " + l.to;
		box.append(bar);
	}
}

/* ---- the panel ---- */

/* "refs 1, mapped 1, lru, dirty; 0x7": pieces, those that are new marked. */
function pieces(value, old) {
	const span = make("span");
	const had = new Set((old || "").split(/[,;] /));
	for (const p of value.split(/[,;] /))
		span.append(make("span", "chip" + (old !== undefined && !had.has(p) ? " new" : ""), p));
	return span;
}

function watchBox(w, i) {
	const now = states[current][i], old = current ? states[current - 1][i] : now;
	const box = make("div", "watch" + (now !== old ? " new" : "")), name = make("div", "name");
	name.append(make("b", "", w.name));
	box.append(name);
	const value = make("div", "value");
	if (/[,;] /.test(now)) value.append(pieces(now, now !== old ? old : undefined));
	else value.textContent = now || "-";
	box.append(value);
	if (now !== old) box.append(make("div", "old", old || "-"));
	return box;
}

function drawState() {
	const panel = $("state"), s = current ? steps[current - 1] : null;
	panel.textContent = "";
	panel.append(make("h2", "", s ? "after step " + s.n : "before the first step"));
	const doing = make("div");
	doing.id = "doing";
	if (s) {
		doing.style.setProperty("--lane", lane(s.column));
		doing.append(make("small", "", trace.actors[s.actor].name + " on " + unitOf(s)), s.text);
	} else {
		doing.append(make("small", "", "set up"), "Step with the arrow keys, or click a step.");
	}
	panel.append(doing);
	let group = "";
	trace.watches.forEach((w, i) => {
		if (w.group !== group) panel.append(make("div", "group", group = w.group));
		panel.append(watchBox(w, i));
	});
}

function drawAbout() {
	const about = $("about");
	const read = make("div"), dl = make("dl");
	read.append(make("h2", "", "how to read it"), dl);
	const say = (a, b) => dl.append(make("dt", "", a), make("dd", "", b));
	say("time goes down", "Each box is one step; nothing else happens during it. A grey line leads to the "
		+ "next step on another CPU; dashed: the one before could have gone on.");
	say("IRQ", "An interrupt handler, in the lane of the CPU that it interrupts. Violet arrows: asked for, taken, acknowledged.");
	say("bars, dotted arrows", "Locks held, and a lock that passes from one to the other.");
	say("entries", "R W: rights; A accessed, D dirty. A TLB may keep what the entry no longer says. "
		+ "Folio: references, mappings, flags; then the first word of its bytes.");
	say("machine: " + data.kind, data.kind_text);
	say("program", data.words);
	about.append(read);
}

/* ---- stepping ---- */

function go(n) {
	const list = shown();
	/* A hidden step is the one shown before it. */
	current = list.reduce((best, s) => s.n <= n ? s.n : best, 0);
	document.body.dataset.current = current;
	document.querySelectorAll("[data-step]").forEach((e) => {
		e.classList.toggle("later", current > 0 && +e.dataset.step > current);
		e.classList.toggle("now", +e.dataset.step === current && !e.classList.contains("end"));
	});
	const at = list.filter((s) => s.n <= current).length;
	$("slider").max = list.length;
	$("slider").value = at;
	$("count").textContent = current ? "step " + current + " (" + at + " of " + list.length + ")" : "start";
	drawState();
	const card = document.querySelector(".step[data-step='" + current + "']");
	if (card && go.moved) card.scrollIntoView({block: "nearest"});
	go.moved = true;
}

function move(by) {
	const at = shown().map((s) => s.n);
	if (by > 0) return go(at.find((n) => n > current) ?? steps.length);
	return go(at.filter((n) => n < current).pop() ?? 0);
}

function setQuiet(on) {
	quiet = on;
	$("quiet").checked = on;
	drawLanes();
	go(current);
}

document.addEventListener("keydown", (e) => {
	const moves = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1};
	if (e.ctrlKey || e.metaKey || e.altKey) return;
	if (moves[e.key]) move(moves[e.key]);
	else if (e.key === "Home") go(0);
	else if (e.key === "End") go(steps.length);
	else if (e.key === "q" || e.key === "Q") setQuiet(!quiet);
	else return;
	e.preventDefault();
});
$("first").onclick = () => go(0);
$("last").onclick = () => go(steps.length);
$("back").onclick = () => move(-1);
$("next").onclick = () => move(1);
$("slider").oninput = (e) => go(+e.target.value ? shown()[+e.target.value - 1].n : 0);
$("quiet").onchange = (e) => setQuiet(e.target.checked);
window.addEventListener("resize", drawArrows);

drawHead();
drawAbout();
drawLanes();
/* #step=N opens there, #keys=RRL presses keys: for links, and for whoever tests the page. */
go.moved = location.hash.includes("step=");
go(+(/step=(\d+)/.exec(location.hash) || [0, 0])[1]);
for (const k of (/keys=([RL]+)/.exec(location.hash) || ["", ""])[1])
	document.dispatchEvent(new KeyboardEvent("keydown", {key: k === "R" ? "ArrowRight" : "ArrowLeft"}));
