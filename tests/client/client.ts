// A client whose words are all generated from schemas/openapi.json: what does not fit them is no program.

import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

export type Row = components["schemas"]["ObjectRow"];

export async function ask(baseUrl: string): Promise<string[]> {
  const client = createClient<paths>({ baseUrl });
  const told: string[] = [];
  const status = await client.GET("/v1/status");
  if (!status.data) throw new Error(JSON.stringify(status.error));
  told.push(`status: ${status.data.sources.map((one) => `${one.name} ${one.outcome}`).join(", ")}; you are ${status.data.you.role}`);
  const objects = await client.GET("/v1/objects", { params: { query: { kind: "instance", sync: "synced" } } });
  if (!objects.data) throw new Error(JSON.stringify(objects.error));
  const rows: Row[] = objects.data;
  told.push(`objects: ${rows.map((one) => `${one.id} ${one.health}`).join(", ")}`);
  const one = await client.GET("/v1/objects/{kind}/{name}", { params: { path: { kind: "instance", name: "web" } } });
  told.push(`web: ${one.data?.fields.length} differ, ${Object.keys(one.data?.lines ?? {}).length > 0 ? "with" : "without"} lines`);
  const suspended = await client.POST("/v1/suspend", { body: { what: "instance/web", reason: "a client tries it" } });
  told.push(`suspend: ${suspended.data?.message}`);
  const resumed = await client.POST("/v1/resume", { body: { what: "instance/web" } });
  told.push(`resume: ${resumed.data?.message}`);
  const revisions = await client.GET("/v1/revisions", { params: { query: {} } });
  told.push(`revisions: ${revisions.data?.map((each) => each.fate).join(", ")}`);
  const refused = await client.POST("/v1/approve", { body: { digest: "0123456789abcdef" } });
  told.push(`approve: ${refused.error?.status} ${refused.error?.type}`);
  return told;
}
