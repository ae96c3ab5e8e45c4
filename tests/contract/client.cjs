// A client as people write it for Node: axios, and tokens made with jsonwebtoken. Run by scripts/contract.
"use strict";

const assert = require("node:assert/strict");
const axios = require("axios");
const jwt = require("jsonwebtoken");

const { CONTRACT_URL: baseURL, ORCHESTRATOR_JWT_SECRET: secret } = process.env;
const client = (headers) => axios.create({ baseURL, headers });
const token = (role, sub) => jwt.sign({ sub, role }, secret, { expiresIn: "1h" });

const byKey = client({ "X-API-Key": "dev-key-123" });
const byToken = client({ Authorization: `Bearer ${token("agent", "user123")}` });
const reader = client({ Authorization: `Bearer ${token("user", "reader")}` });
const nobody = client({});

// What a refused request says, as axios users read it.
async function refused(request, status, part) {
  await assert.rejects(request, ({ response }) => {
    assert.equal(response?.status, status, JSON.stringify(response?.data));
    assert.ok(response.data.detail.includes(part), response.data.detail);
    return true;
  });
}

async function main() {
  const bugfix = {
    type: "bugfix",
    payload: { issue_id: "123", description: "Fix login bug" },
    priority: "P2",
    source: "ops",
  };
  assert.equal((await nobody.get("/health")).data.status, "healthy");
  for (const one of [byKey, byToken]) {
    const { data: created } = await one.post("/tasks", bugfix);
    assert.equal(created.message, "Task created and assigned to dev_agent");
    const { data } = await reader.get(`/tasks/${created.task_id}`);
    assert.deepEqual(data.task.payload, bugfix.payload);
    assert.ok(Date.now() - new Date(data.task.created_at).getTime() < 60_000);
  }
  await refused(nobody.post("/tasks", bugfix), 401, "credential");
  await refused(reader.post("/tasks", bugfix), 403, "role");
  await refused(byKey.post("/tasks", { ...bugfix, type: "bugfx" }), 400, "bugfix");
  await refused(byKey.get("/tasks/none"), 404, "");

  const told = await byKey.post("/events/publish", { event_type: "deploy.started", payload: {} });
  assert.equal(told.data.event_type, "deploy.started");

  const { data: reported } = await byKey.post("/tasks", bugfix);
  for (const status of ["in_progress", "completed"]) {
    const { data } = await byKey.patch(`/tasks/${reported.task_id}/status`, null, { params: { status } });
    assert.equal(data.status, status);
  }

  const { data: gated } = await byKey.post("/tasks", { ...bugfix, priority: "P1" });
  assert.equal(gated.task.status, "blocked");
  const { data: approved } = await byToken.post(`/approvals/${gated.approval_id}/approve`);
  assert.equal(approved.message, "Approved by user123");
  // axios sends `null` as no body at all, and the reason in the query.
  await refused(
    byToken.post(`/approvals/${gated.approval_id}/reject`, null, { params: { reason: "Not ready" } }), 409, "user123");
  const { data: history } = await reader.get("/approvals/history", { params: { limit: 50 } });
  assert.equal(history.history[0].approval_id, gated.approval_id);

  // Events arrive as they are told.
  const stream = (await reader.get("/events", { params: { types: "deploy.*" }, responseType: "stream" })).data;
  await byKey.post("/events/publish", { event_type: "deploy.succeeded", payload: { deployment_id: "d-7" } });
  let text = "";
  for await (const part of stream) {
    text += part;
    if (text.includes("event: deploy.succeeded\n") && text.includes('"deployment_id":"d-7"')) break;
  }
  stream.destroy();
  console.log("the Node client finds everything as documented");
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
