// A generated client speaks with a real controller.

import { pathToFileURL } from "node:url";
import { World } from "../page/world.mjs";

const { ask } = await import(pathToFileURL(`${process.env.CLIENT}/client.js`));
const world = new World("edge");
world.write("keel.yaml", "apiVersion: evenkeel/v1\nkind: Source\nname: edge\n");
world.write("web.yaml", `apiVersion: evenkeel/v1
kind: StoragePool
metadata: { name: fast }
spec: { driver: dir }
---
apiVersion: evenkeel/v1
kind: Image
metadata: { name: busybox }
spec: { source: { builtin: busybox } }
---
apiVersion: evenkeel/v1
kind: Instance
metadata: { name: web }
spec: { image: busybox, state: Running, devices: { root: { type: disk, path: /, pool: fast } } }
`);
world.push("a container");
await world.begin(8080);
const told = await ask(world.url);
await world.end();
world.keel("destroy", "--yes", world.work);
console.log(told.join("\n"));
const expected = [
  "status: edge settled; you are admin",
  "objects: instance/web healthy",
  "web: 0 differ, with lines",
  "suspend: instance/web is suspended by root: a client tries it",
  "resume: instance/web is resumed",
  "revisions: inForce",
  "approve: 409 keel:conflict",
];
for (const [at, words] of expected.entries()) if (told[at] !== words) throw new Error(`expected: ${words}`);
process.exit(0);
