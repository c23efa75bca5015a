// What a person sees on the page, and how soon.

import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import fs from "node:fs";
import { story } from "./story.mjs";
import { World, sleep, until } from "./world.mjs";

const { chromium } = createRequire(process.env.PLAYWRIGHT)("playwright-core");
const pictures = process.env.PICTURES;

const HOST = `apiVersion: evenkeel/v1
kind: Source
name: edge
`;
const GROUND = `apiVersion: evenkeel/v1
kind: StoragePool
metadata: { name: fast }
spec: { driver: dir }
---
apiVersion: evenkeel/v1
kind: Network
metadata: { name: lan0 }
spec: { type: bridge, ipv4: { address: 10.87.0.1/24 } }
---
apiVersion: evenkeel/v1
kind: SnapshotSchedule
metadata: { name: nightly }
spec: { schedule: "0 2 * * *", selector: { matchLabels: { tier: web } }, retention: { keepDaily: 7 } }
---
apiVersion: evenkeel/v1
kind: Image
metadata: { name: busybox }
spec: { source: { builtin: busybox } }
`;
const instance = (name, memory, more = "") => `apiVersion: evenkeel/v1
kind: Instance
metadata:
  name: ${name}
  labels: { tier: web }
spec:
  image: busybox
  state: Running
  limits:
    memory: ${memory}
  devices:
    root: { type: disk, path: /, pool: fast }
    eth0: { type: nic, network: lan0 }
${more}`;

let checks = 0;
function check(holds, words) {
  checks += 1;
  if (!holds) throw new Error(words);
}
const seen = (page, text) => page.getByText(text).first().waitFor({ timeout: 15000 });
const picture = (page, name) => page.screenshot({ path: `${pictures}/${name}.png`, fullPage: true });

async function told(world, page) {
  await page.goto(world.url);
  await seen(page, /All 6 objects are as git says/);
  await seen(page, "the first containers");
  await seen(page, "Ada Lovelace");
  check((await page.title()).startsWith("✓ Evenkeel"), "the title says how it stands");
  await picture(page, "settled");

  // A push is seen without anybody's doing, and whoever was searching goes on.
  await page.locator("#search").fill("instance/web");
  world.write("web.yaml", instance("web", "96MiB"));
  world.push("web: more memory");
  await seen(page, "web: more memory");
  await seen(page, /All 6 objects are as git says/);
  check(await page.locator("#search").inputValue() === "instance/web", "the search stays");
  check(await page.evaluate(() => document.activeElement.id) === "search", "the focus stays");
  check(await page.locator("ul.rows > li").count() === 1, "one is meant");
  await page.goto(`${world.url}#/history`);
  await seen(page, "“web: more memory”");
  await seen(page, /update instance\/web/);
  await picture(page, "history");
}

async function drifts(world, page) {
  await page.goto(`${world.url}#/`);
  world.keel("suspend", "instance/web", "--reason", "its memory is looked at");
  await seen(page, "instance/web is suspended");
  const uid = JSON.parse(world.keel("get", "instance", "web", "-o", "json")).status.uid;
  const [file] = execFileSync("find", ["/sys/fs/cgroup", "-path", `*${uid}*`, "(", "-name", "memory.max", "-o", "-name", "memory.limit_in_bytes", ")"], { encoding: "utf8" }).trim().split("\n").sort((one, other) => one.length - other.length);
  fs.writeFileSync(file, "33554432");
  world.keel("reconcile");
  await seen(page, /1 object differs/);
  await page.getByRole("link", { name: "web", exact: true }).click();
  const row = page.locator("tr.differs").first();
  await row.waitFor();
  const words = await row.innerText();
  for (const word of ["limits.memory", "96MiB", "32MiB", "drifted", "web.yaml:10"]) check(words.includes(word), `${word} is not in ${words}`);
  await seen(page, /Please press Enter/);
  await seen(page, "snapshot-schedule/nightly");
  await picture(page, "drift");
  await page.goto(`${world.url}#/plan`);
  await seen(page, /G119: suspended by root: its memory is looked at/);
  await picture(page, "plan");
  await page.goto(`${world.url}#/`);
  world.keel("resume", "instance/web");
  await seen(page, /All 6 objects are as git says/);
}

async function fails(world, page) {
  world.write("broken.yaml", instance("broken", "64MiB", "    data: { type: disk, source: /nowhere/at/all, path: /srv }\n"));
  world.push("broken: a folder that is not there");
  await seen(page, /object is not as it should be/);
  await seen(page, /failed \d+×/);
  check(await page.locator(".card .bad", { hasText: "instance/broken" }).count() === 1, "the card says what failed");
  await picture(page, "failed");
  await page.goto(`${world.url}#/history`);
  await seen(page, /1 failed/);
  world.write("broken.yaml", "kind: [\n");
  world.push("a slip of the pen");
  await seen(page, /broken.yaml:1/);
  await picture(page, "history-failed");
  await page.goto(`${world.url}#/`);
  await seen(page, /newer revision is refused/);
  // A plan that guards stop.
  world.write("broken.yaml", null);
  for (const name of ["web.yaml", "db.yaml"]) world.write(name, null);
  world.push("away with all of it");
  await seen(page, /plan waits for an answer/);
  await picture(page, "stopped");
  await page.getByRole("link", { name: "look at it" }).click();
  await seen(page, /keel approve [0-9a-f]{16}/);
  await picture(page, "plan-stopped");
  world.git("revert", "--no-edit", "HEAD", "HEAD~1");
  world.write("broken.yaml", null);
  world.push("all of it back");
  await page.goto(`${world.url}#/`);
  await seen(page, /All 6 objects are as git says/);
}

// The history tells the story of what was pushed, also of what was not followed.
async function refuses(world, page) {
  const head = execFileSync("git", ["-C", world.work, "rev-parse", "HEAD"], { encoding: "utf8" }).trim();
  world.git("reset", "-q", "--hard", "HEAD~2");
  world.write("other.yaml", "");
  world.push("the history is written anew");
  await page.goto(`${world.url}#/`);
  await seen(page, /cannot be looked at: .* the history was written anew/);
  await picture(page, "rewound");
  world.git("reset", "-q", "--hard", head);
  world.write("other.yaml", "");
  world.push("on with what was in force");
  await seen(page, "on with what was in force");
  world.write("web.yaml", instance("web", "128MiB"));
  world.push("web: even more memory");
  await seen(page, "web: even more memory");
  world.keel("rollback", JSON.parse((await world.ask("/v1/revisions?limit=2")).text)[1].revision, "--reason", "that was too much");
  await seen(page, /pinned here by root, 1 commit behind [0-9a-f]{7}: that was too much/);
  await picture(page, "pinned");
  world.keel("unpin");
  await seen(page, "web: even more memory");
  await page.goto(`${world.url}#/history`);
  for (const word of ["✗ refused", "⚓ pinned", "→ followed again", "✗ invalid", "✓ in force"]) await seen(page, word);
  await picture(page, "story");
}

async function keys(world, page) {
  await page.goto(`${world.url}#/events`);
  await seen(page, /in force/);
  await page.keyboard.press("/");
  await until("the search has the focus", () => page.evaluate(() => document.activeElement.id === "search"));
  await page.keyboard.type("instance");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await until("an instance is shown", () => page.evaluate(() => location.hash.startsWith("#/object/instance/")));
  await page.keyboard.press("5");
  await seen(page, "Storage and networks");
  await seen(page, "network/lan0");
  await seen(page, "storage-pool/fast");
  await picture(page, "stores");
}

async function everywhere(browser, world) {
  for (const [name, size] of [["telephone", { width: 360, height: 740 }], ["wide", { width: 1600, height: 900 }]]) {
    for (const colorScheme of ["light", "dark"]) {
      const context = await browser.newContext({ viewport: size, colorScheme });
      const page = await context.newPage();
      for (const part of ["/", "/object/instance/web", "/plan", "/history", "/events", "/stores"]) {
        await page.goto(`${world.url}#${part}`);
        await page.locator("h1").waitFor();
        await sleep(150);
        const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        check(over <= 0, `${part} is ${over} pixels too wide on a ${name}`);
        await picture(page, `${name}-${colorScheme}${part.replaceAll("/", "-")}`);
      }
      await context.close();
    }
  }
}

const median = (all) => all.sort((one, other) => one - other)[Math.floor(all.length / 2)];

async function measured(browser) {
  const world = new World("many", { suspended: "it is only looked at" });
  world.write("keel.yaml", HOST.replace("edge", "many"));
  world.write("ground.yaml", GROUND.split("---")[0]);
  const one = (number) => `apiVersion: evenkeel/v1\nkind: Instance\nmetadata: { name: i${String(number).padStart(4, "0")}, labels: { tier: t${number % 7} } }\nspec: { image: busybox, state: Stopped, devices: { root: { type: disk, path: /, pool: fast } } }\n`;
  world.write("all.yaml", Array.from({ length: 999 }, (_, number) => one(number)).join("---\n"));
  world.push("a thousand");
  await world.begin(8081);
  const page = await browser.newPage();
  await page.addInitScript(() => {
    new MutationObserver((_, observer) => {
      if (document.querySelectorAll("ul.rows > li").length < 1000) return;
      observer.disconnect();
      requestAnimationFrame(() => setTimeout(() => { window.painted = performance.now(); }, 0));
    }).observe(document, { childList: true, subtree: true });
  });
  const paints = [];
  const answers = [];
  for (let round = 0; round < 7; round += 1) {
    await page.goto(world.url);
    paints.push(await until("a thousand rows", () => page.evaluate(() => window.painted)));
    const began = performance.now();
    await world.ask("/v1/objects");
    answers.push(performance.now() - began);
  }
  await picture(page, "thousand");
  const updates = [];
  for (let round = 0; round < 7; round += 1) {
    const words = `round ${round}`;
    const heard = page.evaluate((text) => new Promise((done) => {
      new MutationObserver((_, observer) => {
        if (!document.getElementById("main").textContent.includes(text)) return;
        observer.disconnect();
        requestAnimationFrame(() => setTimeout(() => done(Date.now()), 0));
      }).observe(document, { childList: true, subtree: true, characterData: true });
    }), words);
    await sleep(100);
    const began = Date.now();
    await world.ask("/v1/suspend", { what: "instance/i0001", reason: words });
    updates.push((await heard) - began);
  }
  await world.end();
  const slack = Number(process.env.KEEL_SLACK ?? 8);
  for (const [what, all, target] of [["first paint of 1 000 objects", paints, 300], ["an update after an event", updates, 200], ["a list of 1 000 objects", answers, 15]]) {
    console.log(`${what}: ${median(all).toFixed(0)} ms (${Math.min(...all).toFixed(0)} to ${Math.max(...all).toFixed(0)}; target ${target})`);
    check(median(all) <= target * slack, `${what} takes too long`);
  }
}

const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
const wrong = [];
try {
  const world = new World("edge");
  world.write("keel.yaml", HOST);
  world.write("ground.yaml", GROUND);
  for (const name of ["web", "db"]) world.write(`${name}.yaml`, instance(name, "64MiB"));
  world.push("the first containers");
  await world.begin(8080);
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("console", (message) => { if (message.type() === "error" && !/404/.test(message.text())) wrong.push(message.text()); });
  for (const part of [told, drifts, fails, refuses, keys]) {
    const began = Date.now();
    try {
      await part(world, page);
    } catch (error) {
      await picture(page, `${part.name}-wrong`);
      console.error(fs.readFileSync(`${world.folder}/log`, "utf8"));
      throw error;
    }
    console.log(`${part.name}: ${Date.now() - began} ms`);
  }
  await everywhere(browser, world);
  check(wrong.length === 0, `the browser complains: ${wrong.join("; ")}`);
  world.write("web.yaml", null);
  world.write("db.yaml", null);
  await page.goto(`${world.url}#/`);
  await world.end();
  await seen(page, "the controller does not answer");
  world.keel("destroy", "--yes", world.work);
  const began = Date.now();
  await story({ browser, ground: GROUND, instance, seen, check, picture });
  console.log(`story: ${Date.now() - began} ms`);
  await measured(browser);
} finally {
  await browser.close();
}
console.log(`all is seen: ${checks} checks`);
process.exit(0);
