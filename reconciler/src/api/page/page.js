// The page: it only looks. Everything is made of text nodes: nothing that a manifest or a guest says is ever read as HTML.

const main = document.getElementById("main");
const live = document.getElementById("live");
const state = { search: "", sync: "", objects: [], status: null, news: [], turn: 0 };

function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

async function get(path) {
  const response = await fetch(path, { headers: { accept: "application/json" } });
  const body = await response.json();
  if (!response.ok) throw new Error(body.detail ?? response.statusText);
  return body;
}

// Each word has a glyph, so that colour is never alone.
const LOOKS = {
  synced: ["good", "✓"], healthy: ["good", "●"], settled: ["good", "✓"],
  changed: ["careful", "→"], new: ["careful", "+"], progressing: ["careful", "◐"], stopped: ["soft", "■"],
  drifted: ["careful", "≠"], partly: ["careful", "◐"], looked: ["careful", "‖"], busy: ["soft", "…"],
  missing: ["bad", "✗"], incomplete: ["bad", "✗"], orphaned: ["careful", "–"], foreign: ["careful", "?"],
  unclear: ["careful", "?"], unknown: ["careful", "?"], degraded: ["bad", "✗"], failed: ["bad", "✗"],
};
function badge(word) {
  const [look, glyph] = LOOKS[word] ?? ["soft", "·"];
  return h("span", { class: `badge ${look}` }, `${glyph} ${word}`);
}

const shown = (value) => (value === null || value === undefined ? "—" : typeof value === "string" ? value : JSON.stringify(value));
const place = (at) => (at && at.path ? `${at.path}:${at.line}:${at.column}` : "");
const dotted = (path) => path.replace(/^\/spec\//, "").replaceAll("/", ".").replace(/^\./, "").replaceAll("~1", "/").replaceAll("~0", "~");
const bytes = (count) => {
  if (typeof count !== "number") return "—";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit += 1; }
  return `${unit && count < 100 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
};
const when = (text) => {
  if (!text) return "—";
  const at = new Date(text);
  return h("time", { datetime: text, title: text }, Number.isNaN(at.valueOf()) ? text : at.toLocaleString());
};
const link = (id) => h("a", { href: `#/object/${encodeURI(id)}` }, id);
const table = (heads, rows) => h("div", { class: "wrap" }, h("table", {},
  h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))), h("tbody", {}, rows)));
const row = (cells, attributes) => h("tr", attributes ?? {}, cells.map((cell) => h("td", {}, cell)));
const nothing = (words) => h("p", { class: "soft" }, words);

// ---- objects

function sourceCard(source) {
  const careful = (words) => h("p", { class: "careful" }, words);
  const counts = Object.entries(source.objects).map(([word, count]) => h("span", {}, `${count} `, badge(word), " "));
  const waits = source.waits;
  return h("section", { class: "card", "aria-label": `Source ${source.name}` },
    h("h2", {}, source.name, " ", badge(source.outcome ?? "progressing")),
    h("p", {}, h("code", {}, source.revision ?? "nothing in force"), source.signed_by ?? source.signedBy ? ` signed by ${source.signedBy}` : ""),
    h("p", {}, counts.length ? counts : "no objects yet"),
    source.invalid && h("p", { class: "bad" }, `✗ ${source.invalid.revision} is refused, the last good one stays in force: ${source.invalid.why}`),
    source.unreachable && h("p", { class: "bad" }, `✗ cannot be looked at: ${source.unreachable.why}`),
    source.failed && h("p", { class: "bad" }, `✗ ${source.failed.why}`),
    source.suspended && careful(`‖ suspended: ${source.suspended.reason}`),
    waits && waits.stopping.length > 0 && h("p", { class: "bad" }, `✗ a plan of ${waits.steps} steps waits for an answer: ${waits.stopping.map((one) => `${one.code} ${one.message}`).join("; ")} `, h("a", { href: "#/plan" }, "look at it")),
    waits && waits.stopping.length === 0 && careful(["◐ ", h("a", { href: "#/plan" }, `${waits.steps} steps wait, ${waits.held} are held`)]),
    source.fights.map((fight) => careful(`⚔ ${fight.field} of ${fight.object} is changed back by somebody else: it is left alone`)),
    source.resting.map((one) => h("p", { class: "bad" }, `✗ ${one.object} failed ${one.times}×: ${one.why}`)),
    source.reconciledAt && h("p", { class: "soft" }, "looked at ", when(source.reconciledAt)));
}

function objectRow(one) {
  return h("li", {}, link(one.id), badge(one.sync), badge(one.health),
    h("span", { class: "soft" }, [one.state, one.differing ? `${one.differing} differ` : null, one.suspended ? "suspended" : null, one.held ? "held" : null].filter(Boolean).join(", ")));
}

function tree() {
  const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
  const meant = state.objects.filter((one) => (!state.sync || one.sync === state.sync) &&
    words.every((word) => one.id.toLowerCase().includes(word) || Object.entries(one.labels ?? {}).some(([key, value]) => `${key}=${value}`.toLowerCase().includes(word))));
  const groups = new Map();
  for (const one of meant) {
    const key = `${one.source} › ${one.project ?? "host"} › ${one.kind}`;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(one);
  }
  if (!groups.size) return [nothing(state.objects.length ? "Nothing is meant by this search." : "Nothing is managed yet.")];
  return [...groups].map(([key, all]) => h("section", {}, h("h3", {}, `${key} (${all.length})`), h("ul", { class: "rows" }, all.map(objectRow))));
}

function objectsView() {
  const found = h("div", { id: "found" }, tree());
  const again = () => found.replaceChildren(...tree());
  const words = [...new Set(state.objects.map((one) => one.sync))].sort();
  const search = h("input", { type: "search", id: "search", placeholder: "name or label=value  ( / )", "aria-label": "Search objects", value: state.search,
    oninput: (event) => { state.search = event.target.value; again(); } });
  const chips = words.length > 1 ? ["", ...words].map((word) => h("button", { type: "button", "aria-pressed": String(state.sync === word),
    onclick: () => { state.sync = word; draw(); } }, word ? badge(word) : "all")) : [];
  const suspended = state.status.suspended.filter((one) => !one.what.startsWith("source/"));
  return [h("h1", {}, "What is managed"),
    suspended.map((one) => h("p", { class: "careful" }, `‖ ${one.what} is suspended: ${one.reason}`)),
    (state.status.unclear ?? []).map((one) => h("p", { class: "careful" }, `? unclear: ${one}`)),
    h("div", { class: "cards" }, state.status.sources.map(sourceCard)),
    h("div", { class: "tools" }, search, chips), found];
}

// ---- one object

function leaves(value, at, into) {
  if (value !== null && typeof value === "object" && Object.keys(value).length) {
    for (const [key, below] of Object.entries(value)) leaves(below, `${at}/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`, into);
  } else if (value !== null && value !== undefined) into.set(at, value);
  return into;
}

async function objectView(id) {
  const instance = /^instance\/(?:([^/]+)\/)?([^/]+)$/.exec(id);
  const query = instance?.[1] ? `?project=${encodeURIComponent(instance[1])}` : "";
  const [one, done, log] = await Promise.all([
    get(`/v1/objects/${id.split("/").map(encodeURIComponent).join("/")}`),
    get(`/v1/history?limit=20&object=${encodeURIComponent(id)}`),
    instance ? fetch(`/v1/instances/${encodeURIComponent(instance[2])}/logs${query}`).then((r) => (r.ok ? r.text() : "")) : null,
  ]);
  const desired = leaves(one.desired?.spec ?? {}, "/spec", new Map());
  const found = leaves(one.live?.spec ?? {}, "/spec", new Map());
  const differing = new Map(one.fields.map((field) => [field.path, field]));
  const paths = [...new Set([...desired.keys(), ...found.keys()])];
  const below = (path) => differing.get(path) ?? one.fields.find((field) => path.startsWith(`${field.path}/`));
  return [h("h1", {}, one.id, " ", badge(one.sync), " ", badge(one.health)),
    h("p", { class: "soft" }, [one.state, `source ${one.source}`, one.declared ? place(one.declared) : "no longer declared"].filter(Boolean).join(" · "), " · looked at ", when(one.lookedAt)),
    one.why && h("p", { class: "careful" }, one.why),
    one.resting && h("p", { class: "bad" }, `✗ failed ${one.resting.times}×, tried again `, when(one.resting.until), `: ${one.resting.why}`),
    one.held.map((because) => h("p", { class: "careful" }, `held by ${because.code}: ${because.message}`)),
    one.fields.length > 0 && [h("h2", {}, "What differs"), table(["Field", "Wanted", "There", "By", "Declared"], one.fields.map((field) => row([
      h("code", {}, dotted(field.path)), h("span", { class: "value" }, shown(field.desired)), h("span", { class: "value" }, shown(field.live)),
      `${shown(field.cause)}${field.onlyTold ? ", only told" : ""}`, h("code", {}, place(field.declared))], { class: "differs" })))],
    h("h2", {}, "Wanted beside what is there"),
    table(["Field", "Wanted", "There"], paths.map((path) => row([h("code", {}, dotted(path)),
      h("span", { class: "value" }, shown(desired.get(path))), h("span", { class: "value" }, shown(found.get(path)))], { class: below(path) ? "differs" : null }))),
    log !== null && [h("h2", {}, "Console"), log ? h("pre", { id: "log", tabindex: "0", "aria-label": "The end of the console" }, log) : nothing("It has written nothing.")],
    one.live?.status && h("details", {}, h("summary", {}, "Status"), h("pre", {}, JSON.stringify(one.live.status, null, 2))),
    h("h2", {}, "What was done with it"),
    done.length ? table(["When", "What", "By", "Note"], done.map((event) => row([when(event.at),
      event.event === "started" ? `${event.word} began` : event.outcome ?? event.event, event.by ?? event.command ?? "", event.message ?? ""]))) : nothing("Nothing yet.")];
}

// ---- the rest

function step(change, held) {
  return h("details", {}, h("summary", {}, `${change.action} `, h("code", {}, change.id), ` — ${change.reason}`, change.effect ? ` (${shown(change.effect)})` : ""),
    held && held.map((because) => h("p", { class: "careful" }, `${because.code}: ${because.message}`)),
    change.source && h("p", { class: "soft" }, place(change.source)),
    change.fields.length > 0 && table(["Field", "There", "Wanted", "By"], change.fields.map((field) => row([h("code", {}, dotted(field.path)),
      h("span", { class: "value" }, shown(field.before)), h("span", { class: "value" }, shown(field.after)), shown(field.cause)]))));
}

async function planView() {
  const plans = await get("/v1/plan");
  return [h("h1", {}, "What waits"), plans.length === 0 && nothing("Nothing: all that is in force was done."),
    plans.map((one) => h("section", {}, h("h2", {}, `Source ${one.source} at `, h("code", {}, one.plan.source.revision ?? "—")),
      one.plan.guards.map((guard) => h("p", { class: "bad" }, `✗ ${guard.code}: ${guard.message}`)),
      one.stopped && h("p", {}, "On the host, ", h("code", {}, `keel approve ${one.digest}`), " lets it be done once."),
      one.approvedUntil && h("p", { class: "good" }, "✓ approved until ", when(one.approvedUntil)),
      one.plan.changes.map((change) => step(change)),
      one.plan.held.length > 0 && [h("h3", {}, "Held"), one.plan.held.map((change) => step(change, change.because))]))];
}

function result(one) {
  const all = Object.values(one.steps);
  const count = (outcome) => all.filter((each) => each.outcome?.outcome === outcome).length;
  const words = [[count("failed"), "failed"], [one.held, "held"], [count("skipped"), "skipped"]].filter(([number]) => number).map(([number, word]) => `${number} ${word}`);
  if (one.interrupted || !one.finished) words.push("interrupted");
  return h("span", { class: words.length ? "bad" : "good" }, words.length ? `✗ ${words.join(", ")}` : `✓ ${count("succeeded")} done`);
}

async function historyView() {
  const all = await get("/v1/history?limit=100");
  return [h("h1", {}, "What was done"), all.length === 0 && nothing("Nothing yet."),
    all.map((one) => h("details", {}, h("summary", {}, when(one.begun), " ", h("code", {}, one.revision ?? "—"), ` ${one.source} · ${one.command}${one.by ? ` · ${one.by}` : ""} · `, result(one)),
      h("p", { class: "soft" }, `plan ${one.plan}`, one.micros ? ` · took ${Math.round(one.micros / 1000)} ms` : ""),
      table(["Object", "What", "How it ended", "Note"], Object.values(one.steps).map((each) => row([link(each.address), each.word ?? "—", each.outcome?.outcome ?? "—", each.outcome?.message ?? ""])))))];
}

function eventsView() {
  return [h("h1", {}, "What happens"), state.news.length === 0 && nothing("Nothing was heard yet."),
    state.news.length > 0 && table(["When", "What", "About", ""], [...state.news].reverse().map((event) => row([when(event.at), event.topic, event.object ? link(event.object) : event.source ?? "", event.message])))];
}

async function storesView() {
  const [pools, networks, leases, snapshots, trash] = await Promise.all(["pools", "networks", "networks/leases", "snapshots", "trash"].map((part) => get(`/v1/${part}`)));
  return [h("h1", {}, "Storage and networks"),
    h("h2", {}, "Pools"), pools.length ? table(["Pool", "Driver", "Used", "Of", ""], pools.map(({ id, status }) => row([link(id), status.driver ?? "", bytes(status.used), bytes(status.total),
      status.total ? h("meter", { min: 0, max: status.total, value: status.used ?? 0, high: status.total * 0.85, "aria-label": `use of ${id}` }) : ""]))) : nothing("None."),
    h("h2", {}, "Networks"), networks.length ? table(["Network", "Interface", "Addresses", "Ports"], networks.map(({ id, status }) => row([link(id), status.interface ?? "",
      (status.addresses ?? []).map((one) => (typeof one === "string" ? one : one.address)).join(", "), String((status.ports ?? []).length)]))) : nothing("None."),
    leases.length > 0 && [h("h3", {}, "Leases"), table(["Address", "Name", "MAC", "Network"], leases.map((one) => row([one.address ?? "", one.name ?? "", one.mac ?? one.client ?? "", one.network])))],
    h("h2", {}, "Schedules"), snapshots.schedules.length ? table(["Schedule", "Last run", "Next run", "Of"], snapshots.schedules.map((one) => row([link(one.object), when(one.lastRun), when(one.nextRun),
      [one.of.join(", "), one.missed.map((words) => h("p", { class: "bad" }, `✗ ${words}`))]]))) : nothing("None."),
    h("h2", {}, "Snapshots"), snapshots.snapshots.length ? table(["Of", "Snapshot", "Made", "Goes"], snapshots.snapshots.map((one) => row([link(one.object), one.name, when(one.createdAt), when(one.expiresAt)]))) : nothing("None."),
    h("h2", {}, "Trash"), trash.length ? table(["Object", "Deleted", "Goes for good"], trash.map((one) => row([one.id, when(one.deletedAt), when(one.expiresAt)]))) : nothing("Empty.")];
}

// ---- drawing

async function draw() {
  const turn = (state.turn += 1);
  const where = decodeURI(location.hash.slice(1) || "/");
  for (const part of document.querySelectorAll("nav a")) {
    const own = part.hash.slice(1);
    const here = own === "/" ? where === "/" || where.startsWith("/object/") : where === own;
    if (here) part.setAttribute("aria-current", "page"); else part.removeAttribute("aria-current");
  }
  let content;
  try {
    if (where === "/" || !state.status) [state.status, state.objects] = await Promise.all([get("/v1/status"), get("/v1/objects")]);
    document.getElementById("host").textContent = state.status.host ? `on ${state.status.host}` : "";
    if (where.startsWith("/object/")) content = await objectView(where.slice("/object/".length));
    else if (where === "/plan") content = await planView();
    else if (where === "/history") content = await historyView();
    else if (where === "/events") content = eventsView();
    else if (where === "/stores") content = await storesView();
    else content = objectsView();
  } catch (error) {
    content = [h("p", { class: "bad" }, `✗ ${error.message}`)];
  }
  // Something newer is being drawn.
  if (turn !== state.turn) return;
  const same = main.dataset.where === where;
  const held = same && document.activeElement?.id === "search" ? document.activeElement.selectionStart : null;
  const open = same ? [...main.querySelectorAll("details")].map((one) => one.open) : [];
  const top = scrollY;
  main.replaceChildren(...content.flat(Infinity).filter(Boolean));
  [...main.querySelectorAll("details")].forEach((one, index) => { one.open = open[index] ?? false; });
  const log = document.getElementById("log");
  if (log) log.scrollTop = log.scrollHeight;
  if (same) scrollTo(0, top); else { scrollTo(0, 0); if (main.dataset.where) main.focus(); }
  if (held !== null) { const search = document.getElementById("search"); search.focus(); search.setSelectionRange(held, held); }
  main.dataset.where = where;
  document.title = where === "/" ? "Evenkeel" : `${where.slice(1)} · Evenkeel`;
}

let soon = null;
function drawSoon() { soon ??= setTimeout(() => { soon = null; draw(); }, 60); }

function listen() {
  const events = new EventSource("/v1/events?follow=true");
  events.onopen = () => { live.textContent = "● live"; live.className = "good"; drawSoon(); };
  events.onerror = () => { live.textContent = "✗ the controller does not answer"; live.className = "bad"; };
  const heard = (event) => {
    state.news.push(JSON.parse(event.data));
    if (state.news.length > 500) state.news.shift();
    drawSoon();
  };
  for (const topic of ["booted", "revision", "invalid", "unreachable", "reconciled", "begun", "done", "failed", "object", "suspended", "resumed", "fight"]) events.addEventListener(topic, heard);
  events.addEventListener("missed", drawSoon);
}

addEventListener("hashchange", draw);
addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? "");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    if (location.hash && location.hash !== "#/") location.hash = "#/";
    setTimeout(() => document.getElementById("search")?.focus(), 100);
  } else if (event.key === "Escape" && document.activeElement?.id === "search") {
    state.search = ""; draw();
  } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && (!typing || document.activeElement.id === "search")) {
    const all = [...main.querySelectorAll("ul.rows a")];
    const at = all.indexOf(document.activeElement);
    const next = all[event.key === "ArrowDown" ? at + 1 : at - 1];
    if (all.length && (at >= 0 || document.activeElement?.id === "search") && next) { event.preventDefault(); next.focus(); }
  }
});
// What is looked at while nothing happens: the console of an instance.
setInterval(() => { if (document.getElementById("log") && document.visibilityState === "visible") draw(); }, 3000);

try { state.news = await get("/v1/events"); } catch { /* draw() says why */ }
await draw();
listen();
