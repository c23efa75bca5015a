// The page: it only looks. Here: where one is, what is drawn when, and the keys.

import { ago, children, get, h, morph } from "./parts.js";
import { objectsView, tree, verdict } from "./objects.js";
import { consoleOf, objectView } from "./object.js";
import { eventsView, historyView, planView, storesView } from "./rest.js";

const main = document.getElementById("main");
const live = document.getElementById("live");
const state = { search: "", chip: "", all: false, objects: [], status: null, news: [] };
const PARTS = ["/", "/plan", "/history", "/events", "/stores"];
const here = () => { try { return decodeURI(location.hash.slice(1)) || "/"; } catch { return "/"; } };

function showWhere(where) {
  for (const part of document.querySelectorAll("nav a")) {
    const own = part.hash.slice(1);
    if (own === "/" ? where === "/" || where.startsWith("/object/") : where === own) part.setAttribute("aria-current", "page");
    else part.removeAttribute("aria-current");
  }
}

async function content(where) {
  if (where.startsWith("/object/")) return objectView(where.slice("/object/".length), state);
  if (where === "/plan") return planView();
  if (where === "/history") return historyView();
  if (where === "/events") return eventsView(state);
  if (where === "/stores") return storesView();
  return objectsView(state);
}

async function look() {
  [state.status, state.objects] = await Promise.all([get("/v1/status"), get("/v1/objects")]);
  const seen = verdict(state);
  document.getElementById("host").textContent = state.status.host ? `on ${state.status.host}` : "";
  document.title = `${seen.glyph}${seen.count ? ` ${seen.count}` : ""} Evenkeel${state.status.host ? ` on ${state.status.host}` : ""}`;
}

async function drawOnce() {
  const where = here();
  showWhere(where);
  let fresh;
  try {
    const looks = look();
    // What the objects are drawn from comes first; the rest need not wait for it.
    if (where === "/") await looks; else looks.catch(() => {});
    fresh = await content(where);
  } catch (error) {
    fresh = [h("p", { class: "bad" }, `✗ ${error.message}`)];
  }
  if (where !== here()) return;
  const same = main.dataset.where === where;
  const log = document.getElementById("log");
  const atEnd = !log || log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
  fresh = fresh.flat(Infinity).filter(Boolean);
  if (same) children(main, fresh); else main.replaceChildren(...fresh);
  if (atEnd) scrollLog();
  if (!same) {
    const search = document.getElementById("search");
    if (search) search.value = state.search;
    scrollTo(0, 0);
    if (main.dataset.where) main.focus({ preventScroll: true });
    main.dataset.where = where;
  }
}

function scrollLog() {
  const log = document.getElementById("log");
  if (log) log.scrollTop = log.scrollHeight;
}

// One at a time: what happens meanwhile is drawn by one more after it.
let drawing = null;
let again = false;
function draw() {
  if (drawing) { again = true; return drawing; }
  drawing = drawOnce().finally(() => {
    drawing = null;
    if (again) { again = false; draw(); }
  });
  return drawing;
}
let soon = null;
function drawSoon() {
  if (document.visibilityState === "hidden") return;
  soon ??= setTimeout(() => { soon = null; draw(); }, 30);
}

const TOPICS = ["booted", "revision", "invalid", "unreachable", "reconciled", "begun", "done", "failed", "object", "suspended", "resumed", "fight", "pinned"];
async function listen() {
  try { state.news = await get("/v1/events"); } catch { /* draw() says why */ }
  const last = state.news.at(-1)?.number ?? 0;
  const events = new EventSource(`/v1/events?follow=true&after=${last}`);
  events.onopen = () => {
    live.textContent = "● live";
    live.className = "good";
    // What happened since the last look, or during a break, was told to nobody.
    drawSoon();
  };
  events.onerror = () => { live.textContent = "✗ the controller does not answer"; live.className = "bad"; };
  const heard = (event) => {
    state.news.push(JSON.parse(event.data));
    if (state.news.length > 500) state.news.shift();
    drawSoon();
  };
  for (const topic of TOPICS) events.addEventListener(topic, heard);
  events.addEventListener("missed", drawSoon);
}

function drawTree() {
  const found = document.getElementById("found");
  if (found) children(found, tree(state));
  for (const button of main.querySelectorAll("[data-chip]")) button.setAttribute("aria-pressed", String(button.dataset.chip === state.chip));
}

main.addEventListener("input", (event) => {
  if (event.target.id === "search") { state.search = event.target.value; drawTree(); }
});
main.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.chip !== undefined) { state.chip = state.chip === button.dataset.chip ? "" : button.dataset.chip; drawTree(); }
  if (button?.dataset.action === "all") { state.all = !state.all; draw(); }
});
addEventListener("hashchange", () => { state.all = false; draw(); });
document.addEventListener("visibilitychange", drawSoon);

function move(step) {
  const all = [...main.querySelectorAll("ul.rows a, summary")].filter((one) => one.offsetParent !== null);
  const at = all.indexOf(document.activeElement);
  if (at < 0 && step < 0) return false;
  const next = all[at + step];
  if (!next && at + step < 0) document.getElementById("search")?.focus();
  next?.focus();
  return Boolean(next);
}
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? "");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    // What was searched before gives way to what is typed.
    const focus = () => {
      const search = document.getElementById("search");
      search?.focus();
      search?.select();
    };
    if (here() === "/") focus(); else { location.hash = "#/"; setTimeout(() => draw().then(focus), 0); }
  } else if (event.key === "Escape" && document.activeElement?.id === "search") {
    state.search = document.activeElement.value = "";
    drawTree();
  } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && document.activeElement?.id !== "log") {
    if ((!typing || document.activeElement.id === "search") && move(event.key === "ArrowDown" ? 1 : -1)) event.preventDefault();
  } else if (!typing && PARTS["12345".indexOf(event.key)]) {
    location.hash = `#${PARTS["12345".indexOf(event.key)]}`;
  }
});

// What moves though nothing is told: the console of an instance, and how long ago things were.
setInterval(async () => {
  const log = document.getElementById("log");
  if (!log || document.visibilityState !== "visible") return;
  const where = here();
  const text = await consoleOf(where.slice("/object/".length)).catch(() => null);
  if (!text || where !== here() || log.textContent === text) return;
  const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
  morph(log, h("pre", { id: "log", tabindex: "0", "aria-label": "The end of the console" }, text));
  if (atEnd) scrollLog();
}, 2000);
setInterval(drawSoon, 60000);
setInterval(() => {
  for (const time of document.querySelectorAll("time")) {
    const words = ago(new Date(time.dateTime));
    if (time.textContent !== words) time.textContent = words;
  }
}, 5000);

listen();
draw();
