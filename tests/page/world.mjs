// A host with a repository that a controller follows, for tests that ask it something.

import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import path from "node:path";

export const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

export async function until(what, holds, patience = 20000) {
  const began = Date.now();
  for (;;) {
    const found = await holds();
    if (found) return found;
    if (Date.now() - began > patience) throw new Error(`not within ${patience} ms: ${what}`);
    await sleep(20);
  }
}

export class World {
  constructor(name, { suspended, verify } = {}) {
    this.folder = path.join(process.env.WORLD, name);
    this.work = path.join(this.folder, "work");
    fs.mkdirSync(this.work, { recursive: true });
    this.bare = path.join(this.folder, "edge.git");
    this.git("init", "-q", "-b", "main");
    execFileSync("git", ["init", "-q", "--bare", "-b", "main", this.bare]);
    fs.writeFileSync(path.join(this.folder, "controller.yaml"),
      `apiVersion: evenkeel/v1\nkind: Controller\nsources:\n- name: edge\n  git: { url: ${this.bare}, branch: main, interval: 10m${verify ? `, verify: ${verify}` : ""} }\n${suspended ? `  suspend: { reason: "${suspended}" }\n` : ""}`);
    this.environment = { ...process.env, KEEL_STATE_DIR: path.join(this.folder, "state"), PATH: `${process.env.KEEL_PROGRAMS}:${process.env.PATH}` };
  }

  git(...words) {
    execFileSync("git", ["-C", this.work, "-c", "user.name=Ada Lovelace", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false", ...words]);
  }

  write(name, text) {
    if (text === null) fs.rmSync(path.join(this.work, name));
    else fs.writeFileSync(path.join(this.work, name), text);
  }

  push(words) {
    this.git("add", "-A");
    this.git("commit", "-q", "-m", words);
    this.git("push", "-q", "-f", this.bare, "main");
  }

  keel(...words) {
    return execFileSync("keel", words, { env: this.environment, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  }

  async begin(port) {
    const log = fs.openSync(path.join(this.folder, "log"), "w");
    this.controller = spawn("keel", ["run", "--config", path.join(this.folder, "controller.yaml")], { env: this.environment, stdio: ["ignore", log, log] });
    const id = path.join(this.folder, "state", "id");
    await until("it has a state folder", () => fs.existsSync(id) && fs.readFileSync(id, "utf8").trim());
    this.socket = `/run/keel/${fs.readFileSync(id, "utf8").trim()}/api.sock`;
    await until("it answers", () => fs.existsSync(this.socket));
    await until("it has looked", async () => (await this.ask("/readyz")).status === 200, 60000);
    // As `ssh -L` does it.
    this.forward = net.createServer((near) => {
      const far = net.connect(this.socket);
      near.pipe(far).pipe(near);
      for (const end of [near, far]) end.on("error", () => { near.destroy(); far.destroy(); });
    }).listen(port, "127.0.0.1");
    this.url = `http://localhost:${port}/`;
  }

  ask(where, body) {
    return new Promise((done, failed) => {
      const asked = http.request({ socketPath: this.socket, path: where, method: body ? "POST" : "GET", headers: body ? { "content-type": "application/json" } : {} }, (answer) => {
        let text = "";
        answer.on("data", (part) => (text += part));
        answer.on("end", () => done({ status: answer.statusCode, text }));
      });
      asked.on("error", failed);
      asked.end(body && JSON.stringify(body));
    });
  }

  async end() {
    this.forward.close();
    this.controller.kill("SIGTERM");
    await new Promise((done) => this.controller.on("exit", done));
  }
}
