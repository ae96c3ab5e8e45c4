"""A client as people write it in Python: requests, and tokens made with PyJWT. Run by scripts/contract."""

import datetime
import os

import jwt
import requests

URL = os.environ["CONTRACT_URL"]
SECRET = os.environ["ORCHESTRATOR_JWT_SECRET"]
BUGFIX = {
    "type": "bugfix",
    "payload": {"issue_id": "123", "description": "Fix login bug"},
    "priority": "P2",
    "source": "ops",
}


def token(role, sub="user123", minutes=60, key=SECRET, **claims):
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=minutes)
    return jwt.encode({"sub": sub, "role": role, "exp": end, **claims}, key, algorithm="HS256")


def session(**headers):
    client = requests.Session()
    client.headers.update(headers)
    return client


def ok(answer, status=200):
    assert answer.status_code == status, f"{answer.request.method} {answer.url}: {answer.status_code} {answer.text}"
    assert answer.headers["Content-Type"].startswith("application/json"), answer.headers
    return answer.json()


def refused(answer, status, part):
    told = ok(answer, status)
    assert told["status"] == status and part in told["detail"], told


by_key = session(**{"X-API-Key": "dev-key-123"})
by_token = session(Authorization=f"Bearer {token('agent')}")
reader = session(Authorization=f"Bearer {token('user', 'reader')}")
nobody = session()

# Everybody reads what is public.
assert ok(nobody.get(f"{URL}/"))["status"] == "running"
assert ok(nobody.get(f"{URL}/health"))["queue_stats"].keys() == {"pending_tasks", "processing_tasks", "total_tasks"}
assert "queue" in ok(nobody.get(f"{URL}/stats"))

# Either credential alone suffices; none, a wrong one and one that is over do not.
for client in (by_key, by_token):
    created = ok(client.post(f"{URL}/tasks", json=BUGFIX))
    assert created["success"] and created["message"] == "Task created and assigned to dev_agent", created
    task = ok(reader.get(f"{URL}/tasks/{created['task_id']}"))["task"]
    assert (task["status"], task["payload"], task["assigned_to"]) == ("assigned", BUGFIX["payload"], "dev_agent"), task
    datetime.datetime.fromisoformat(task["created_at"].replace("Z", "+00:00"))
refused(nobody.post(f"{URL}/tasks", json=BUGFIX), 401, "credential")
refused(reader.post(f"{URL}/tasks", json=BUGFIX), 403, "role")
for bad in (token("agent", minutes=-5), token("agent", key="another secret, as long as it has to be"), token("root"), "x"):
    answer = requests.get(f"{URL}/approvals/pending", headers={"Authorization": f"Bearer {bad}"})
    refused(answer, 401, "")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer"), answer.headers
refused(by_key.post(f"{URL}/tasks", json={**BUGFIX, "type": "bugfx"}), 400, "Did you mean `bugfix`?")
refused(by_key.get(f"{URL}/tasks/none"), 404, "")

# Every answer says how many more there may be.
answer = reader.get(f"{URL}/approvals/pending")
limit, left, reset = (int(answer.headers[f"X-RateLimit-{name}"]) for name in ("Limit", "Remaining", "Reset"))
assert 0 < left < limit and reset >= datetime.datetime.now().timestamp() - 1, answer.headers

# What is told is told to everybody.
told = ok(by_token.post(f"{URL}/events/publish", json={"event_type": "deploy.started", "payload": {"deployment_id": "d-7"}}))
assert told["success"] and told["event_type"] == "deploy.started", told

# An agent without our worker reports by PATCH: it takes the task out of its queue, and ends it.
task_id = ok(by_key.post(f"{URL}/tasks", json=BUGFIX))["task_id"]
for status in ("in_progress", "completed"):
    assert ok(by_key.patch(f"{URL}/tasks/{task_id}/status", params={"status": status}))["status"] == status
refused(by_key.patch(f"{URL}/tasks/{task_id}/status", params={"status": "in_progress"}), 409, "has ended")
task_id = ok(by_key.post(f"{URL}/tasks", json=BUGFIX))["task_id"]
params = {"status": "failed", "error": "Agent error message"}
assert ok(by_token.patch(f"{URL}/tasks/{task_id}/status", params=params))["status"] == "failed"
assert ok(reader.get(f"{URL}/tasks/{task_id}"))["task"]["error"] == "Agent error message"
listed = ok(reader.get(f"{URL}/tasks", params={"status": "failed", "limit": 10}))
assert task_id in [task["task_id"] for task in listed["tasks"]], listed

# An urgent task waits for a person; the first decision counts.
for decision, how, word in (("approve", {}, "Approved"), ("reject", {"params": {"reason": "Not ready"}}, "Rejected")):
    created = ok(by_key.post(f"{URL}/tasks", json={**BUGFIX, "priority": "P0"}))
    assert created["task"]["status"] == "blocked", created
    approval = created["approval_id"]
    pending = ok(reader.get(f"{URL}/approvals/pending"))
    assert approval in [one["approval_id"] for one in pending["approvals"]], pending
    assert ok(by_token.post(f"{URL}/approvals/{approval}/{decision}", **how))["message"] == f"{word} by user123"
    refused(by_token.post(f"{URL}/approvals/{approval}/approve"), 409, "user123")
    assert ok(reader.get(f"{URL}/approvals/{approval}"))["approval"]["approved_by"] == "user123"
    history = ok(reader.get(f"{URL}/approvals/history", params={"limit": 50}))["history"]
    assert history[0]["approval_id"] == approval, history[0]

print("the Python client finds everything as documented")
