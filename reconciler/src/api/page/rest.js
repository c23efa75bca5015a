// What waits, what was done, what happens, and what lies where.

import { h, badge, bad, bytes, careful, code, dotted, get, link, nothing, place, table, value, when } from "./parts.js";

function change(one, open, held) {
  return h("details", { "data-key": `${one.id} ${one.action}`, open }, h("summary", {}, h("strong", {}, `${one.action} `), code(one.id), ` — ${one.reason}`, one.effect && ` (${one.effect})`,
    held && h("span", { class: "careful" }, ` ‖ ${held.map((because) => because.code).join(", ")}`)),
    held && held.map((because) => careful("‖", `${because.code}: ${because.message}`)),
    one.source && h("p", { class: "soft" }, code(place(one.source))),
    one.fields.length > 0 && table(["Field", "There", "Wanted", "By"], one.fields.map((field) => [[code(dotted(field.path)),
      value(field.before), value(field.after), String(field.cause)]])));
}

export async function planView() {
  const plans = await get("/v1/plan");
  const few = plans.reduce((sum, one) => sum + one.plan.changes.length + one.plan.held.length, 0) <= 8;
  return [h("h1", {}, "What waits"), plans.length === 0 && nothing("Nothing: all that is in force was done."),
    plans.map((one) => h("section", { "data-key": one.source }, h("h2", {}, `Source ${one.source} at `, code(one.plan.source.revision ?? "—")),
      one.plan.guards.map((guard) => bad(`${guard.code}: ${guard.message}`)),
      one.stopped && h("p", {}, "On the host, ", code(`keel approve ${one.digest}`), " lets it be done once."),
      one.approvedUntil && h("p", { class: "good" }, "✓ approved until ", when(one.approvedUntil)),
      one.plan.changes.length > 0 && [h("h3", {}, `To do: ${one.plan.changes.length}`), one.plan.changes.map((each) => change(each, few))],
      one.plan.held.length > 0 && [h("h3", {}, `Held: ${one.plan.held.length}`), one.plan.held.map((each) => change(each, few, each.because))]))];
}

function result(one) {
  const all = Object.values(one.steps);
  const count = (outcome) => all.filter((each) => each.outcome?.outcome === outcome).length;
  const words = [[count("failed"), "failed"], [one.held, "held"], [count("skipped"), "skipped"]].filter(([number]) => number).map(([number, word]) => `${number} ${word}`);
  if (one.interrupted) words.push("interrupted");
  if (!one.finished && !one.interrupted) return badge("progressing");
  return h("span", { class: words.length ? "bad" : "good" }, words.length ? `✗ ${words.join(", ")}${count("succeeded") ? `, ${count("succeeded")} done` : ""}` : `✓ ${count("succeeded")} done`);
}

function apply(one) {
  const steps = Object.values(one.steps);
  const some = steps.slice(0, 3).map((each) => `${each.word ?? "—"} ${each.address}`).join(", ");
  return h("details", { class: "apply", "data-key": one.plan }, h("summary", {}, when(one.begun), " ", code(one.revision ?? "—"), " ", result(one), ` · ${some}${steps.length > 3 ? ` and ${steps.length - 3} more` : ""}`,
    h("span", { class: "soft" }, ` · ${one.command}${one.by ? ` by ${one.by}` : ""}`)),
    h("p", { class: "soft" }, `plan ${one.plan} of ${one.source}`, one.micros ? ` · took ${Math.round(one.micros / 1000)} ms` : ""),
    table(["Object", "What", "How it ended", "Took", "Note"], steps.map((each) => [[link(each.address), each.word ?? "—", each.outcome ? badge(each.outcome.outcome) : "—",
      each.micros ? `${Math.round(each.micros / 1000)} ms` : "", each.outcome?.message ?? ""]])));
}

function revision(one) {
  return h("section", { class: "revision", "data-key": `${one.source} ${one.at}` }, h("p", {}, when(one.at), " ", badge(one.fate), " ",
    one.revision && code(one.revision), one.subject && ` “${one.subject}”`, one.author && ` by ${one.author}`, one.signedBy && ` · signed by ${one.signedBy}`,
    h("span", { class: "soft" }, ` · ${one.source}`)), one.why && h("p", { class: { pinned: "careful", approved: "soft" }[one.fate] ?? "bad" }, one.why));
}

// What came into force and what did not, and below it what was done about it: the newest first.
export async function historyView() {
  const [applies, revisions] = await Promise.all([get("/v1/history?limit=100"), get("/v1/revisions?limit=100").catch(() => [])]);
  const all = [...applies.map((one) => [one.begun, apply(one)]), ...revisions.map((one) => [one.at, revision(one)])];
  all.sort(([one], [other]) => Date.parse(other) - Date.parse(one));
  return [h("h1", {}, "What was done"), all.length === 0 && nothing("Nothing yet."), all.map(([, element]) => element)];
}

const TOPICS = { failed: "bad", invalid: "bad", unreachable: "bad", fight: "careful", done: "good", revision: "good", suspended: "careful", pinned: "careful" };
export function eventsView(state) {
  const all = [...state.news].reverse();
  return [h("h1", {}, "What happens"), all.length === 0 && nothing("Nothing was heard yet."),
    all.length > 0 && h("ul", { class: "rows card events" }, all.map((event) => h("li", { "data-key": String(event.number) }, when(event.at), h("span", { class: TOPICS[event.topic] ?? "soft" }, event.topic),
      event.object ? link(event.object) : h("span", {}, event.source ?? ""), h("span", { class: "notes" }, event.message))))];
}

export async function storesView() {
  const [pools, networks, leases, snapshots, trash] = await Promise.all(["pools", "networks", "networks/leases", "snapshots", "trash"].map((part) => get(`/v1/${part}`)));
  const some = (title, all, heads, row) => [h("h2", {}, title), all.length ? table(heads, all.map(row)) : nothing("None.")];
  return [h("h1", {}, "Storage and networks"),
    some("Pools", pools, ["Pool", "Driver", "Used", "Of", "Full"], ({ id, status }) => [[link(id), status.driver ?? "", bytes(status.used), bytes(status.total),
      status.total ? [h("meter", { min: 0, max: status.total, value: status.used ?? 0, high: status.total * 0.85, "aria-label": `use of ${id}` }), ` ${Math.round((status.used ?? 0) * 100 / status.total)} %`] : "—"]]),
    some("Networks", networks, ["Network", "Interface", "Addresses", "Ports"], ({ id, status }) => [[link(id), status.interface ?? "",
      (status.addresses ?? []).map((one) => (typeof one === "string" ? one : one.address)).join(", "), String((status.ports ?? []).length)]]),
    some("Leases", leases, ["Address", "Name", "MAC", "Network", "Until"], (one) => [[one.address ?? "", one.name ?? "", one.hwaddr ?? "", link(one.network), when(one.expires)]]),
    some("Schedules", snapshots.schedules, ["Schedule", "Last run", "Next run", "Of"], (one) => [[link(one.object), when(one.lastRun), when(one.nextRun),
      [one.of.join(", "), one.missed.map((words) => bad(words))]]]),
    some("Snapshots", snapshots.snapshots, ["Of", "Snapshot", "Made", "Goes"], (one) => [[link(one.object), one.name, when(one.createdAt), one.expiresAt ? when(one.expiresAt) : "stays"]]),
    some("Trash", trash, ["Object", "Deleted", "Goes for good"], (one) => [[one.id, when(one.deletedAt), when(one.expiresAt)]])];
}
