// Twenty commits are pushed to a repository of which every commit must be signed: good ones, ones that mean nothing, are
// taken back, written anew, signed by nobody or by a stranger. The history tells what became of each.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { World, until } from "./world.mjs";

const SOURCE = "apiVersion: evenkeel/v1\nkind: Source\nname: shop\n";

function key(folder, name) {
  const file = path.join(folder, name);
  execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", `${name}@example.org`, "-f", file]);
  return { file, open: fs.readFileSync(`${file}.pub`, "utf8").trim() };
}

export async function story({ browser, ground, instance, seen, check, picture }) {
  const folder = path.join(process.env.WORLD, "keys");
  fs.mkdirSync(folder);
  const [ada, stranger] = ["ada", "stranger"].map((name) => key(folder, name));
  const signers = path.join(folder, "allowed_signers");
  fs.writeFileSync(signers, `ada@example.org namespaces="git" ${ada.open}\n`);
  const world = new World("shop", { verify: `{ mode: range, allowedSigners: ${signers} }` });
  const told = new Map();
  const fates = (revision) => JSON.parse(told.text).filter((one) => one.revision === revision).map((one) => one.fate);
  let count = 0;
  // Writes, commits, pushes, and waits until it is told what became of it.
  const commit = async (words, files, fate, { by = ada, how = ["commit", "-q", "-m", words] } = {}) => {
    for (const [name, text] of Object.entries(files)) world.write(name, text);
    world.git("add", "-A");
    const sign = by ? ["-c", "gpg.format=ssh", "-c", `user.signingkey=${by.file}`] : [];
    world.git(...sign, ...how, ...(by ? ["-S"] : []));
    count += 1;
    return push(words, fate);
  };
  const push = async (words, fate) => {
    world.git("push", "-q", "-f", world.bare, "main");
    const head = execFileSync("git", ["-C", world.work, "rev-parse", "HEAD"], { encoding: "utf8" }).trim();
    if (!world.controller) await world.begin(8082);
    await until(`“${words}” is ${fate}`, async () => {
      told.text = (await world.ask("/v1/revisions?limit=100")).text;
      return fates(head.slice(0, 7)).includes(fate);
    });
    return head;
  };
  const settled = () => until("it is settled", async () => {
    const status = JSON.parse((await world.ask("/v1/status")).text);
    return status.sources.every((one) => one.outcome === "settled");
  });
  // Back to a commit, as who has noticed a mistake before anybody else does.
  const back = (to) => world.git("reset", "-q", "--hard", to);

  world.write("keel.yaml", SOURCE);
  world.write("ground.yaml", ground);
  await commit("the shop opens", { "web.yaml": instance("web", "64MiB"), "db.yaml": instance("db", "64MiB") }, "inForce");
  await settled();
  let good = await commit("web: more memory for the sale", { "web.yaml": instance("web", "96MiB") }, "inForce");
  await settled();
  await commit("db: in a hurry, and not signed", { "db.yaml": instance("db", "80MiB") }, "refused", { by: null });
  back(good);
  good = await commit("db: the same, signed", { "db.yaml": instance("db", "80MiB") }, "inForce");
  await settled();
  await commit("cache: a third one", { "cache.yaml": "kind: [\n" }, "invalid");
  await commit("Revert “cache: a third one”", {}, "inForce", { how: ["revert", "--no-edit", "HEAD"] });
  await commit("cache: a third one, written right", { "cache.yaml": instance("cache", "48MiB") }, "inForce");
  await settled();
  good = await commit("cache: a little more", { "cache.yaml": instance("cache", "56MiB") }, "inForce");
  await settled();
  await commit("web: by somebody we do not know", { "web.yaml": instance("web", "512MiB") }, "refused", { by: stranger });
  back(good);
  await commit("web: a limit that is no size", { "web.yaml": instance("web", "much") }, "invalid");
  await commit("web: 112 MiB", { "web.yaml": instance("web", "112MiB") }, "inForce");
  good = await commit("web: 128 MiB", { "web.yaml": instance("web", "128MiB") }, "inForce");
  await settled();
  back("HEAD~3");
  await commit("another history", { "web.yaml": instance("web", "64MiB") }, "refused");
  back(good);
  await commit("mail: data on a disk that is not there", { "mail.yaml": instance("mail", "48MiB", "    data: { type: disk, source: /nowhere/at/all, path: /srv }\n") }, "inForce");
  await until("it fails", async () => JSON.parse((await world.ask("/v1/status")).text).sources[0].outcome === "partly");
  await commit("mail: without the disk", { "mail.yaml": instance("mail", "48MiB") }, "inForce");
  await settled();
  await commit("away with all of it", { "web.yaml": null, "db.yaml": null, "cache.yaml": null, "mail.yaml": null }, "waits");
  await commit("Revert “away with all of it”", {}, "inForce", { how: ["revert", "--no-edit", "HEAD"] });
  await settled();
  await commit("cache and mail are not needed", { "cache.yaml": null, "mail.yaml": null }, "waits");
  const waiting = JSON.parse((await world.ask("/v1/plan")).text).find((one) => one.stopped);
  world.keel("approve", waiting.digest);
  await settled();
  await commit("db: 96 MiB", { "db.yaml": instance("db", "96MiB") }, "inForce");
  await commit("web: back to 64 MiB", { "web.yaml": instance("web", "64MiB") }, "inForce");
  await settled();
  check(count === 20, `${count} commits were pushed`);

  for (const [name, viewport] of [["story-twenty", { width: 1280, height: 900 }], ["story-telephone", { width: 360, height: 740 }]]) {
    const page = await browser.newPage({ viewport });
    await page.goto(`${world.url}#/history`);
    for (const word of ["“the shop opens”", "“web: back to 64 MiB”", "is not signed", "cache.yaml:1", "the history was written anew", "waits for an answer", "is approved by root", "1 failed"]) await seen(page, new RegExp(word));
    await picture(page, name);
    await page.close();
  }
  await world.end();
  world.keel("destroy", "--yes", "--no-trash", world.work);
}
