// What all views are made of. Everything is made of text nodes: nothing that a manifest or a guest says is ever read as HTML.

export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

export async function get(path) {
  const response = await fetch(path, { headers: { accept: "application/json" } });
  const body = await response.json();
  if (!response.ok) throw new Error(body.detail ?? response.statusText);
  return body;
}

// Each word has a glyph, so that colour is never alone.
const LOOKS = {
  synced: ["good", "✓"], healthy: ["good", "●"], settled: ["good", "✓"], inForce: ["good", "✓"], succeeded: ["good", "✓"],
  changed: ["careful", "→"], new: ["careful", "+"], progressing: ["careful", "◐"], stopped: ["soft", "■"],
  drifted: ["careful", "≠"], partly: ["careful", "◐"], looked: ["careful", "‖"], busy: ["soft", "…"], skipped: ["careful", "–"],
  missing: ["bad", "✗"], incomplete: ["bad", "✗"], orphaned: ["careful", "–"], foreign: ["careful", "?"],
  unclear: ["careful", "?"], unknown: ["careful", "?"], degraded: ["bad", "✗"], failed: ["bad", "✗"],
  unpinned: ["careful", "→"], approved: ["good", "✓"], waits: ["bad", "‖"], invalid: ["bad", "✗"], refused: ["bad", "✗"], pinned: ["careful", "⚓"], interrupted: ["bad", "✗"],
};
const WORDS = { inForce: "in force", looked: "only looked at", unpinned: "followed again" };
export function badge(word, more = "") {
  const [look, glyph] = LOOKS[word] ?? ["soft", "·"];
  return h("span", { class: `badge ${look}` }, `${glyph} ${WORDS[word] ?? word}${more}`);
}

export const shown = (value) => (value === null || value === undefined ? "—" : value === "" ? "“”" : typeof value === "string" ? value : JSON.stringify(value));
export const place = (at) => (at && at.path ? `${at.path}:${at.line}` : "");
export const dotted = (path) => path.replace(/^\/spec\//, "").replaceAll("/", ".").replace(/^\./, "").replaceAll("~1", "/").replaceAll("~0", "~");
export const bytes = (count) => {
  if (typeof count !== "number") return "—";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit += 1; }
  return `${unit && count < 100 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
};

// How long ago, or until then; the whole time stands behind it.
export function ago(at, now = Date.now()) {
  const seconds = Math.round((at - now) / 1000);
  const size = Math.abs(seconds);
  const [count, unit] = size < 90 ? [size, "s"] : size < 90 * 60 ? [Math.round(size / 60), "min"]
    : size < 36 * 3600 ? [Math.round(size / 3600), "h"] : [Math.round(size / 86400), "days"];
  return size < 2 ? "now" : seconds < 0 ? `${count} ${unit} ago` : `in ${count} ${unit}`;
}
export const when = (text) => {
  if (!text) return "—";
  const at = new Date(text);
  if (Number.isNaN(at.valueOf())) return text;
  return h("time", { datetime: text, title: at.toLocaleString() }, ago(at));
};

export const link = (id, words) => h("a", { href: `#/object/${encodeURI(id)}` }, words ?? id);
// On a narrow screen each row stands for itself, and says in front of each value what it is.
export const table = (heads, rows) => h("div", { class: "wrap" }, h("table", {},
  h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
  h("tbody", {}, rows.map(([cells, attributes]) => h("tr", attributes ?? {}, cells.map((cell, at) => h("td", { "data-head": heads[at] }, Array.isArray(cell) ? h("span", {}, cell) : cell)))))));
export const value = (one) => h("span", { class: "value" }, shown(one));
export const code = (text) => h("code", {}, text);
export const bad = (...words) => h("p", { class: "bad" }, "✗ ", words);
export const careful = (glyph, ...words) => h("p", { class: "careful" }, `${glyph} `, words);
export const nothing = (words) => h("p", { class: "soft" }, words);

// Makes what is there like what should be there, and leaves alone what is so already: the focus, what somebody marked,
// opened or scrolled stays.
export function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) { old.replaceWith(fresh); return; }
  if (old.nodeType === Node.TEXT_NODE) { if (old.data !== fresh.data) old.data = fresh.data; return; }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && !(name === "open" && old.nodeName === "DETAILS")) old.setAttribute(name, value);
  }
  children(old, [...fresh.childNodes]);
}
const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);
export function children(old, fresh) {
  const keyed = new Map();
  for (const node of old.childNodes) { const key = keyOf(node); if (key !== null) keyed.set(key, node); }
  let at = old.firstChild;
  for (const node of fresh) {
    const key = keyOf(node);
    const found = key !== null ? keyed.get(key) : at && keyOf(at) === null ? at : null;
    if (!found) { old.insertBefore(node, at); continue; }
    keyed.delete(key);
    if (found === at) at = at.nextSibling; else old.insertBefore(found, at);
    morph(found, node);
  }
  while (at) { const next = at.nextSibling; at.remove(); at = next; }
}
