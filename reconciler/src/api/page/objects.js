// What is managed: sources with what is in force, and the tree of their objects.

import { h, badge, bad, careful, code, link, nothing, when } from "./parts.js";

const WRONG = new Set(["missing", "incomplete", "degraded", "failed"]);
const OPEN = new Set(["changed", "new", "drifted", "orphaned", "foreign", "unclear", "unknown", "progressing"]);

// How far a pinned revision is behind what its source says by now.
function behind(pin) {
  if (!pin.newest) return "";
  const count = pin.behind === undefined ? "" : ` ${pin.behind} ${pin.behind === 1 ? "commit" : "commits"}`;
  return `,${count} behind ${pin.newest.slice(0, 7)}`;
}

// One glance: whether all is as it should be, and if not, what.
export function verdict(state) {
  const objects = state.objects;
  const wrong = objects.filter((one) => WRONG.has(one.sync) || WRONG.has(one.health)).length;
  const open = objects.filter((one) => !WRONG.has(one.sync) && !WRONG.has(one.health) && (OPEN.has(one.sync) || OPEN.has(one.health))).length;
  const sources = state.status.sources;
  const words = [];
  const some = (count, one, many) => { if (count) words.push(`${count} ${count === 1 ? one : many}`); };
  some(wrong, "object is not as it should be", "objects are not as they should be");
  some(open, "object differs", "objects differ");
  some(sources.filter((one) => one.failed || one.unreachable).length, "source has trouble", "sources have trouble");
  some(sources.filter((one) => one.invalid).length, "newer revision is refused", "newer revisions are refused");
  some(sources.filter((one) => one.waits?.stopping.length).length, "plan waits for an answer", "plans wait for an answer");
  const trouble = wrong > 0 || sources.some((one) => one.failed || one.unreachable || one.invalid || one.waits?.stopping.length);
  if (words.length) return { look: trouble ? "bad" : "careful", glyph: trouble ? "✗" : "≠", count: wrong + open, words: words.join(", ") };
  if (!sources.some((one) => one.revision)) return { look: "careful", glyph: "◐", count: 0, words: "Nothing is in force yet" };
  const held = state.status.suspended.length || sources.some((one) => one.pinned);
  return { look: held ? "careful" : "good", glyph: held ? "‖" : "✓", count: 0,
    words: `${objects.length === 1 ? "The one object is" : `All ${objects.length} objects are`} as ${held ? "wanted, and something is suspended or pinned" : "git says"}` };
}

function sourceCard(source) {
  const counts = Object.entries(source.objects).map(([word, count]) => h("span", { class: "count" }, badge(word, ` ${count}`)));
  const waits = source.waits;
  const stopped = waits?.stopping.length > 0;
  const about = [source.subject && `“${source.subject}”`, source.author && `by ${source.author}`, source.signedBy && `signed by ${source.signedBy}`].filter(Boolean).join(" ");
  return h("section", { class: "card", "data-key": source.name, "aria-label": `Source ${source.name}` },
    h("h2", {}, source.name, " ", badge(stopped ? "waits" : source.outcome ?? "progressing")),
    h("p", {}, source.revision ? [code(source.revision), " ", about, source.committedAt && [" ", h("span", { class: "soft" }, when(source.committedAt))]] : "nothing in force"),
    h("p", {}, counts.length ? counts : "no objects yet"),
    source.invalid && bad(code(source.invalid.revision), ` is refused, the last good one stays in force: ${source.invalid.why}`),
    source.unreachable && bad(`cannot be looked at: ${source.unreachable.why}`),
    source.failed && bad(source.failed.why),
    source.pinned && careful("⚓", `pinned here by ${source.pinned.by ?? "somebody"}${behind(source.pinned)}: ${source.pinned.reason}`),
    source.suspended && careful("‖", `suspended: ${source.suspended.reason}`),
    stopped && bad(`a plan of ${waits.steps} steps waits for an answer: ${waits.stopping.map((one) => `${one.code} ${one.message}`).join("; ")} `, h("a", { href: "#/plan" }, "look at it")),
    waits && !stopped && careful("◐", h("a", { href: "#/plan" }, `${waits.steps} to do, ${waits.held} held`)),
    (source.fights ?? []).map((fight) => careful("⚔", `${fight.field} of ${fight.object} is changed back by somebody else: it is left alone`)),
    (source.resting ?? []).map((one) => bad(link(one.object), ` failed ${one.times}×, tried again `, when(one.until), `: ${one.why}`)),
    source.reconciledAt && h("p", { class: "soft" }, "looked at ", when(source.reconciledAt)));
}

function objectRow(one) {
  const notes = [one.state && one.state.toLowerCase() !== one.health ? one.state : null, one.differing ? `${one.differing} ${one.differing === 1 ? "field differs" : "fields differ"}` : null,
    one.suspended && !one.why ? "suspended" : null, one.held && !one.why ? "held" : null, one.why].filter(Boolean).join(", ");
  return h("li", { "data-key": one.id }, link(one.id, one.id.slice(one.id.indexOf("/") + 1)), badge(one.sync), badge(one.health),
    h("span", { class: "notes" }, notes));
}

const haystack = (one) => (one.haystack ??= [one.id, one.source, one.project, one.sync, one.health, one.state,
  ...Object.entries(one.labels ?? {}).map(([key, value]) => `${key}=${value}`)].filter(Boolean).join(" ").toLowerCase());

export function meant(state) {
  const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
  return state.objects.filter((one) => (!state.chip || one.sync === state.chip || one.health === state.chip) && words.every((word) => haystack(one).includes(word)));
}

export function tree(state) {
  const found = meant(state);
  const groups = new Map();
  for (const one of found) {
    const key = [state.status.sources.length > 1 ? one.source : null, one.project ?? "host", one.kind].filter(Boolean).join(" › ");
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(one);
  }
  if (!groups.size) return [nothing(state.objects.length ? "Nothing is meant by this search." : "Nothing is managed yet.")];
  return [...groups].map(([key, all]) => {
    const off = new Map();
    for (const one of all) {
      for (const word of new Set([one.sync, one.health])) if (!["synced", "healthy", "stopped"].includes(word)) off.set(word, (off.get(word) ?? 0) + 1);
    }
    return h("details", { class: "group", "data-key": key, open: true }, h("summary", {}, h("strong", {}, key), ` ${all.length} `, [...off].map(([word, count]) => h("span", { class: "count" }, badge(word, ` ${count}`)))),
      h("ul", { class: "rows" }, all.map(objectRow)));
  });
}

export function objectsView(state) {
  const counts = new Map();
  for (const one of state.objects) for (const word of new Set([one.sync, one.health])) counts.set(word, (counts.get(word) ?? 0) + 1);
  const chip = (word, words) => h("button", { type: "button", "data-chip": word, "data-key": `chip ${word}`, "aria-pressed": String(state.chip === word) }, words);
  const seen = verdict(state);
  const suspended = state.status.suspended.filter((one) => !one.what.startsWith("source/"));
  return [h("h1", { class: seen.look }, `${seen.glyph} ${seen.words}`),
    suspended.map((one) => careful("‖", `${one.what} is suspended${one.by ? ` by ${one.by}` : ""}: ${one.reason}`)),
    (state.status.unclear ?? []).map((one) => careful("?", `unclear: ${one}`)),
    h("div", { class: "cards" }, state.status.sources.map(sourceCard)),
    h("div", { class: "tools" },
      h("input", { type: "search", id: "search", placeholder: "name, kind, state or label=value", "aria-label": "Search objects", autocomplete: "off", spellcheck: "false" }),
      chip("", `all ${state.objects.length}`), [...counts].filter(([word]) => word !== "healthy").sort().map(([word, count]) => chip(word, badge(word, ` ${count}`)))),
    h("div", { id: "found" }, tree(state))];
}
