//! What the main objects of the document look like: the bug fix of the first request, and what becomes of it.

use serde_json::{Value, json};

const TASK: &str = "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000";
const TRACE: &str = "019aa1b2c3d47e5f8a6b7c8d9e0f1000";

/// Schemas by name, each with an example.
pub(super) fn examples() -> [(&'static str, Value); 3] {
    [("Task", task()), ("Approval", approval()), ("Event", event())]
}

fn task() -> Value {
    json!({
        "task_id": TASK,
        "type": "bugfix",
        "priority": "P1",
        "source": "ops",
        "status": "assigned",
        "payload": {"issue_id": "123", "description": "Fix login bug"},
        "trace_id": TRACE,
        "sla": {"target": "30m", "deadline": null, "alert_threshold": 0.8},
        "assigned_to": "dev_agent",
        "created_at": "2030-01-31T12:00:00Z",
        "started_at": null,
        "completed_at": null,
        "parent_task_id": null,
        "child_task_ids": [],
        "metadata": {"team": "login"},
        "error": null,
        "retry_count": 0,
        "max_retries": 3,
        "result": null,
        "attempt": 0,
        "crashes": 0,
        "run_at": null,
        "expires_at": null,
        "backoff": null,
        "unique": null,
        "blocked_until": null,
        "blocked_on": null,
        "approval_id": format!("approval_{TASK}"),
        "sla_clock": {
            "queue_ms": 1500, "machine_ms": 0, "human_ms": 90_000, "left_ms": 1_798_500, "due": "2030-01-31T12:31:30Z",
            "state": "ok",
        },
        "requested_by": "DEV",
        "tenant": null,
        "progress": null,
        "progress_note": null,
        "queue": "dev_agent",
        "reason": null,
        "shelved": false,
        "cancel_requested": false,
        "changes": 2,
    })
}

fn approval() -> Value {
    json!({
        "approval_id": format!("approval_{TASK}"),
        "task_id": TASK,
        "task_type": "bugfix",
        "priority": "P1",
        "reason": "priority P1",
        "approver": "anybody with the right to approve",
        "status": "approved",
        "requested_at": "2030-01-31T12:00:00Z",
        "approved_at": "2030-01-31T12:01:30Z",
        "approved_by": "ada",
        "rejection_reason": null,
        "requested_by": "DEV",
        "asked_by": null,
        "tenant": null,
        "expires_at": "2030-02-01T12:00:00Z",
        "payload_hash": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "question": "",
        "form": [],
        "form_values": null,
        "shown": {"issue_id": "123", "description": "Fix login bug"},
        "by": [],
        "quorum": 1,
        "votes": [{"by": "ada", "at": "2030-01-31T12:01:30Z", "note": "looks good"}],
        "kind": "gate",
    })
}

fn event() -> Value {
    json!({
        "event_id": "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f2000",
        "event_type": "deploy.succeeded",
        "priority": "high",
        "source_agent": "ops_agent",
        "trace_id": TRACE,
        "task_id": TASK,
        "payload": {"deployment_id": "d-7", "version": "1.2.3"},
        "timestamp": "2030-01-31T12:10:00Z",
        "metadata": {},
        "cursor": "1896178200000-0.0",
    })
}
