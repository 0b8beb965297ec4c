// Drives the official JavaScript SDK of Svix through every operation of a server, each judged by what comes back.
// drive.mjs SDK URL TOKEN RECEIVER, where SDK is the package's own module.

import assert from "node:assert/strict";

const [sdk, serverUrl, token, receiver] = process.argv.slice(2);
const { ApiException, Svix, Webhook } = await import(sdk);
const svix = new Svix(token, { serverUrl, retryScheduleInMs: [] });
const PATIENCE_MS = 20_000;
const AGO = new Date(Date.now() - 3_600_000);

async function until(ask, holds) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await ask();
    if (holds(found)) return found;
    assert.ok(Date.now() < end, JSON.stringify(found));
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function refused(call, status) {
  await assert.rejects(call, (error) => error instanceof ApiException && error.code === status);
}

async function applications() {
  const made = await svix.application.create({ name: "Acme", uid: "acme", metadata: { plan: "free" } });
  assert.equal((await svix.application.getOrCreate({ name: "Other", uid: "acme" })).id, made.id);
  assert.equal((await svix.application.get("acme")).name, "Acme");
  assert.equal((await svix.application.patch("acme", { name: "Acme 2" })).name, "Acme 2");
  assert.equal((await svix.application.upsert("acme", { name: "Acme 3", uid: "acme" })).id, made.id);
  const spare = await svix.application.create({ name: "Spare" });
  const first = await svix.application.list({ limit: 1 });
  assert.equal(first.done, false);
  assert.deepEqual((await svix.application.list({ iterator: first.iterator })).data.map((app) => app.id), [spare.id]);
  await svix.application.delete(spare.id);
  await refused(() => svix.application.get(spare.id), 404);
  await refused(() => svix.application.create({ name: "x", uid: "acme" }), 409);
}

async function eventTypes() {
  const schemas = { 1: { type: "object", required: ["n"], examples: [{ n: 7 }] } };
  await svix.eventType.create({ name: "thing.made", description: "d", schemas });
  await svix.eventType.create({ name: "thing.gone", description: "d" });
  assert.deepEqual((await svix.eventType.get("thing.made")).schemas, schemas);
  assert.equal((await svix.eventType.patch("thing.gone", { description: "e" })).description, "e");
  assert.equal((await svix.eventType.upsert("thing.gone", { description: "f" })).description, "f");
  await svix.eventType.delete("thing.gone");
  assert.deepEqual((await svix.eventType.list()).data.map((each) => each.name), ["thing.made"]);
}

async function endpoints(app) {
  const made = await svix.endpoint.create(app, { url: receiver, uid: "hook", headers: { "x-a": "1" }, eventTypes: ["thing.made"] });
  assert.deepEqual(made.eventTypes, ["thing.made"]);
  assert.equal((await svix.endpoint.get(app, "hook")).id, made.id);
  assert.equal((await svix.endpoint.patch(app, "hook", { description: "d" })).description, "d");
  assert.equal((await svix.endpoint.upsert(app, made.id, { url: receiver, uid: "hook", eventTypes: ["thing.made"] })).id, made.id);
  const spare = await svix.endpoint.create(app, { url: "https://example.com/" });
  assert.deepEqual((await svix.endpoint.list(app)).data.map((each) => each.id), [made.id, spare.id]);
  await svix.endpoint.delete(app, spare.id);
  assert.deepEqual((await svix.endpoint.getHeaders(app, made.id)).headers, { "x-a": "1" });
  await svix.endpoint.setHeaders(app, made.id, { headers: { "x-b": "2" } });
  await svix.endpoint.patchHeaders(app, made.id, { headers: { "x-c": "3" } });
  assert.deepEqual((await svix.endpoint.getHeaders(app, made.id)).headers, { "x-b": "2", "x-c": "3" });
  const first = (await svix.endpoint.getSecret(app, made.id)).key;
  await svix.endpoint.rotateSecret(app, made.id, {});
  const second = (await svix.endpoint.getSecret(app, made.id)).key;
  assert.notEqual(first, second);
  new Webhook(second);
  return made;
}

async function messages(app, endpoint) {
  await refused(() => svix.message.create(app, { eventType: "thing.made", payload: {} }), 422);
  const body = { eventType: "thing.made", eventId: "e-1", payload: { n: 1 }, tags: ["t"] };
  const sent = await svix.message.create(app, body);
  assert.equal((await svix.message.create(app, body)).id, sent.id);
  assert.equal((await svix.message.get(app, "e-1")).eventType, "thing.made");
  assert.deepEqual((await svix.message.list(app, { tag: "t" })).data.map((each) => each.id), [sent.id]);
  assert.equal((await svix.message.precheck(app, { eventType: "thing.made" })).active, true);
  const example = await svix.endpoint.sendExample(app, endpoint.id, { eventType: "thing.made" });
  await until(() => svix.endpoint.getStats(app, endpoint.id), (found) => found.success === 2);
  const byMessage = (await svix.messageAttempt.listByMsg(app, sent.id)).data;
  assert.deepEqual(byMessage.map((each) => each.responseStatusCode), [200]);
  assert.equal((await svix.messageAttempt.listByEndpoint(app, endpoint.id)).data.length, 2);
  const attempted = (await svix.messageAttempt.listAttemptedMessages(app, endpoint.id)).data;
  assert.deepEqual(attempted.map((each) => each.id).sort(), [sent.id, example.id].sort());
  const destinations = (await svix.messageAttempt.listAttemptedDestinations(app, sent.id)).data;
  assert.deepEqual(destinations.map((each) => each.id), [endpoint.id]);
  assert.equal((await svix.messageAttempt.get(app, sent.id, byMessage[0].id)).id, byMessage[0].id);
  await svix.messageAttempt.resend(app, sent.id, endpoint.id);
  await until(async () => (await svix.messageAttempt.listByMsg(app, sent.id)).data, (found) => found.length === 2);
  return sent;
}

async function tasks(app, endpoint) {
  const since = new Date(Date.now() - 3600_000);
  const ended = (begun) => until(() => svix.backgroundTask.get(begun.id), (found) => found.status === "finished");
  await svix.endpoint.patch(app, endpoint.id, { disabled: true });
  const missed = await svix.message.create(app, { eventType: "thing.made", payload: { n: 2 } });
  await svix.endpoint.patch(app, endpoint.id, { disabled: false });
  const recovery = await svix.endpoint.recover(app, endpoint.id, { since });
  assert.equal((await ended(recovery)).data.messagesSent, 1);
  const made = await until(async () => (await svix.messageAttempt.listByMsg(app, missed.id)).data, (found) => found.length === 1);
  assert.equal((await ended(await svix.endpoint.replayMissing(app, endpoint.id, { since }))).task, "endpoint.replay");
  const replay = await svix.endpoint.bulkReplay(app, endpoint.id, { since, status: 0, eventTypes: ["thing.made"], tag: "t" });
  assert.equal((await ended(replay)).data.messagesSent, 1);
  const listed = await svix.backgroundTask.list({ task: "endpoint.recover", status: "finished" });
  assert.deepEqual(listed.data.map((each) => each.id), [recovery.id]);
  await svix.messageAttempt.expungeContent(app, missed.id, made[0].id);
  await svix.message.expungeContent(app, missed.id);
  assert.deepEqual((await svix.message.get(app, missed.id, { withContent: true })).payload, { expired: true });
  await refused(() => svix.messageAttempt.resend(app, missed.id, endpoint.id), 409);
}

async function operational() {
  const ours = svix.operationalWebhook.endpoint;
  const made = await ours.create({ url: receiver, uid: "ops", eventTypes: ["endpoint.disabled"] });
  assert.equal((await ours.get("ops")).id, made.id);
  assert.equal((await ours.upsert("ops", { url: "https://example.com/", uid: "ops" })).url, "https://example.com/");
  assert.deepEqual((await ours.list()).data.map((each) => each.id), [made.id]);
  await ours.setHeaders("ops", { headers: { "x-a": "1" } });
  assert.deepEqual((await ours.getHeaders("ops")).headers, { "x-a": "1" });
  const first = (await ours.getSecret("ops")).key;
  await ours.rotateSecret("ops", {});
  assert.notEqual((await ours.getSecret("ops")).key, first);
  await ours.delete("ops");
  assert.deepEqual((await ours.list()).data, []);
}

async function portal(app) {
  const link = await svix.authentication.appPortalAccess(app, {});
  assert.ok(link.url.endsWith(link.token));
  await new Svix(link.token, { serverUrl, retryScheduleInMs: [] }).authentication.logout();
  await svix.authentication.expireAll(app, {});
}

await svix.health.get();
await applications();
await eventTypes();
const endpoint = await endpoints("acme");
await messages("acme", endpoint);
await tasks("acme", endpoint);
await portal("acme");
await operational();
