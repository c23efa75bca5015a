// One object: what is wanted beside what is there, with the lines that say so.

import { h, badge, bad, careful, code, dotted, get, link, nothing, place, table, value, when } from "./parts.js";

function leaves(one, at, into) {
  if (one !== null && typeof one === "object" && Object.keys(one).length) {
    for (const [key, below] of Object.entries(one)) leaves(below, `${at}/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`, into);
  } else if (one !== null && one !== undefined) into.set(at, one);
  return into;
}

const instanceOf = (id) => {
  const found = /^instance\/(?:([^/]+)\/)?([^/]+)$/.exec(id);
  return found && { name: found[2], query: found[1] ? `?project=${encodeURIComponent(found[1])}` : "" };
};

export async function consoleOf(id) {
  const instance = instanceOf(id);
  if (!instance) return null;
  const response = await fetch(`/v1/instances/${encodeURIComponent(instance.name)}/logs${instance.query}`);
  return response.ok ? response.text() : "";
}

function differing(one) {
  return [h("h2", {}, "What differs"), table(["Field", "Wanted", "There", "By", "Declared"], one.fields.map((field) => [[
    code(dotted(field.path)), value(field.desired), value(field.live),
    `${typeof field.cause === "string" ? field.cause : JSON.stringify(field.cause)}${field.onlyTold ? ", only told" : ""}`, code(place(field.declared))], { class: "differs" }]))];
}

function beside(one, all) {
  const desired = leaves(one.desired?.spec ?? {}, "/spec", new Map());
  const found = leaves(one.live?.spec ?? {}, "/spec", new Map());
  const lines = one.lines ?? {};
  const marked = (path) => one.fields.some((field) => path === field.path || path.startsWith(`${field.path}/`));
  const paths = [...new Set([...desired.keys(), ...found.keys()])];
  const written = paths.filter((path) => lines[path] || marked(path) || !desired.has(path));
  const rest = paths.length - written.length;
  return [h("h2", {}, "Wanted beside what is there"),
    table(["Field", "Wanted", "There", "Declared"], (all ? paths : written).map((path) => [[code(dotted(path)), value(desired.get(path)), value(found.get(path)),
      lines[path] ? code(place(lines[path])) : h("span", { class: "soft" }, "default")], { class: marked(path) ? "differs" : null }])),
    (rest > 0 || all) && h("p", {}, h("button", { type: "button", "data-action": "all", "aria-pressed": String(all) }, all ? "only what is written" : `also ${rest} defaults`))];
}

function status(one) {
  const all = [...leaves(one.live.status, "", new Map())].map(([path, found]) => [[code(dotted(path.slice(1))), value(found)]]);
  return h("details", { "data-key": "status" }, h("summary", {}, `Status: ${all.length} values`), table(["What", "Value"], all));
}

function snapshots(one, stores) {
  const made = stores.snapshots.filter((each) => each.object === one.id);
  const next = stores.schedules.filter((each) => each.of.includes(one.id) || each.object === one.id);
  if (!made.length && !next.length) return null;
  return [h("h2", {}, "Snapshots"),
    next.map((each) => h("p", {}, "next ", when(each.nextRun), " by ", link(each.object), each.lastRun ? [", last ", when(each.lastRun)] : "")),
    made.length ? table(["Snapshot", "Made", "Goes"], made.map((each) => [[each.name, when(each.createdAt), each.expiresAt ? when(each.expiresAt) : "stays"]])) : nothing("None was made yet.")];
}

export async function objectView(id, state) {
  const stored = /^(instance|volume|snapshot-schedule)\//.test(id);
  const [one, done, log, stores] = await Promise.all([
    get(`/v1/objects/${id.split("/").map(encodeURIComponent).join("/")}`),
    get(`/v1/history?limit=20&object=${encodeURIComponent(id)}`),
    consoleOf(id),
    stored ? get("/v1/snapshots") : { snapshots: [], schedules: [] },
  ]);
  const addresses = one.live?.status?.addresses?.map((each) => (typeof each === "string" ? each : each.address)) ?? [];
  const leases = one.live?.status?.leases ?? [];
  return [h("h1", {}, one.id, " ", badge(one.sync), " ", badge(one.health)),
    h("p", { class: "soft" }, [one.state, `source ${one.source}`].filter(Boolean).join(" · "), " · ",
      one.declared ? code(place(one.declared)) : "no longer declared", addresses.length ? ` · ${addresses.join(", ")}` : "", " · looked at ", when(one.lookedAt)),
    one.why && careful("→", one.why),
    one.resting && bad(`failed ${one.resting.times}×, tried again `, when(one.resting.until), `: ${one.resting.why}`),
    (one.heldBy ?? []).map((because) => careful("‖", `held by ${because.code}: ${because.message}`)),
    one.fields.length > 0 && differing(one),
    one.kept > 0 && careful("≠", `${one.kept} more are left as they live, as its rules say`),
    beside(one, state.all),
    log !== null && [h("h2", {}, "Console"), log ? h("pre", { id: "log", tabindex: "0", "aria-label": "The end of the console" }, log) : nothing("It has written nothing.")],
    snapshots(one, stores),
    leases.length > 0 && [h("h2", {}, "Leases"), table(["Address", "Name", "MAC", "Until"], leases.map((each) => [[each.address ?? "", each.name ?? "", each.hwaddr ?? "", when(each.expires)]]))],
    one.live?.status && status(one),
    h("h2", {}, "What was done with it"),
    done.length ? table(["When", "What", "By", "Note"], done.map((event) => [[when(event.at),
      event.event === "started" ? `${event.word} began` : event.outcome ? badge(event.outcome) : event.event, event.by ?? event.command ?? "", event.message ?? ""]])) : nothing("Nothing yet.")];
}
