//! Every route of the table × everybody who may call × everything that an id may name: who is let through, what is
//! answered, and that the document says so.

use std::collections::BTreeSet;
use std::time::Duration;

use orchestrator::ApprovalPolicy;
use orchestrator::gateway::{Access, Role, Rule, openapi, rules};
use orchestrator::{ApprovalId, Approver};
use serde_json::{Value, json};

use super::support::{Answer, Running, config, gated, tokens};

/// How a route is tried. A new route of the table needs a line in [`SAMPLES`].
struct Sample {
    method: &'static str,
    /// As the table has it.
    path: &'static str,
    query: &'static str,
    /// What the id in the path names.
    named: Named,
    /// Media type and text of a sound body.
    body: Option<(&'static str, &'static str)>,
    /// The answer to a caller who may, about something that another one made.
    well: u16,
    /// The answer about something that the caller made.
    own: u16,
    /// The answer to an id that is none.
    malformed: u16,
    /// The answer to an id of nothing.
    missing: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Nothing,
    Task,
    /// An approval that everybody with the right may decide.
    Approval,
    Schedule,
    /// The link to one.
    Link,
    /// A file of the documentation.
    File,
}

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

const fn get(path: &'static str, named: Named) -> Sample {
    Sample { method: "GET", path, query: "", named, body: None, well: 200, own: 200, malformed: 404, missing: 404 }
}

const fn post(path: &'static str, named: Named, body: &'static str) -> Sample {
    Sample { method: "POST", body: Some((JSON, body)), ..get(path, named) }
}

/// Of a route that takes no body.
const fn act(path: &'static str, named: Named) -> Sample {
    Sample { method: "POST", ..get(path, named) }
}

/// What an agent says of a task that it has not claimed.
const fn lease(path: &'static str, body: &'static str) -> Sample {
    Sample { well: 409, own: 409, ..post(path, Named::Task, body) }
}

const SCHEDULE: &str = r#"{"name": "handler.faq", "cron": "@daily", "task": {"type": "faq", "payload": {}}}"#;
const UNNAMED: &str = r#"{"every": "1h", "task": {"type": "faq", "payload": {}}}"#;

const SAMPLES: &[Sample] = &[
    get("/", Named::Nothing),
    get("/livez", Named::Nothing),
    get("/readyz", Named::Nothing),
    get("/health", Named::Nothing),
    get("/stats", Named::Nothing),
    get("/metrics", Named::Nothing),
    get("/openapi.json", Named::Nothing),
    get("/docs", Named::Nothing),
    get("/docs/{*file}", Named::File),
    post("/tasks", Named::Nothing, r#"{"type": "faq", "payload": {}}"#),
    get("/tasks", Named::Nothing),
    post("/tasks/claim", Named::Nothing, r#"{"types": ["faq"]}"#),
    get("/tasks/{id}", Named::Task),
    Sample { method: "PATCH", query: "?status=in_progress", ..post("/tasks/{id}/status", Named::Task, "{}") },
    act("/tasks/{id}/cancel", Named::Task),
    Sample { well: 409, own: 409, ..act("/tasks/{id}/retry", Named::Task) },
    Sample { method: "PATCH", ..post("/tasks/{id}/priority", Named::Task, r#"{"priority": "P3"}"#) },
    lease("/tasks/{id}/lease/heartbeat", r#"{"lease_token": "00000000-8f3a1c5e9b7d2046"}"#),
    lease("/tasks/{id}/lease/progress", r#"{"lease_token": "00000000-8f3a1c5e9b7d2046", "progress": 0.5}"#),
    lease("/tasks/{id}/lease/output", r#"{"lease_token": "00000000-8f3a1c5e9b7d2046", "text": "Once"}"#),
    lease("/tasks/{id}/lease/complete", r#"{"lease_token": "00000000-8f3a1c5e9b7d2046"}"#),
    lease("/tasks/{id}/lease/fail", r#"{"lease_token": "00000000-8f3a1c5e9b7d2046", "error": "no luck"}"#),
    lease("/tasks/{id}/lease/release", r#"{"lease_token": "00000000-8f3a1c5e9b7d2046"}"#),
    lease("/tasks/{id}/lease/park", r#"{"lease_token": "00000000-8f3a1c5e9b7d2046", "question": "May I?"}"#),
    get("/tasks/{id}/sla", Named::Task),
    get("/tasks/{id}/journal", Named::Task),
    get("/tasks/{id}/events", Named::Task),
    get("/dead-letters", Named::Nothing),
    get("/dead-letters/groups", Named::Nothing),
    post("/dead-letters/retry", Named::Nothing, r#"{"filter": {}, "dry_run": false}"#),
    post("/dead-letters/delete", Named::Nothing, r#"{"filter": {}}"#),
    // The tasks that are tried have not failed.
    Sample { well: 409, own: 409, ..get("/dead-letters/{id}", Named::Task) },
    Sample { method: "DELETE", well: 409, own: 409, ..get("/dead-letters/{id}", Named::Task) },
    // As with events: one that is let through waits for the task's end.
    Sample { query: "?after=x", well: 422, own: 422, ..get("/tasks/{id}/output", Named::Task) },
    get("/schedules", Named::Nothing),
    // Each caller would have to choose another name: it has one that none of them may.
    Sample { well: 422, ..post("/schedules", Named::Nothing, SCHEDULE) },
    get("/schedules/{name}", Named::Schedule),
    Sample { method: "PUT", missing: 200, ..post("/schedules/{name}", Named::Schedule, UNNAMED) },
    Sample { method: "DELETE", ..get("/schedules/{name}", Named::Schedule) },
    act("/schedules/{name}/pause", Named::Schedule),
    act("/schedules/{name}/resume", Named::Schedule),
    act("/schedules/{name}/trigger", Named::Schedule),
    post("/events/publish", Named::Nothing, r#"{"event_type": "deploy.started"}"#),
    // A stream that is let through has no end: it is asked to begin nowhere.
    Sample { query: "?from=x", well: 422, ..get("/events", Named::Nothing) },
    get("/sla/report", Named::Nothing),
    get("/sla/risk", Named::Nothing),
    get("/approvals/pending", Named::Nothing),
    get("/approvals/history", Named::Nothing),
    get("/approvals/{approval_id}", Named::Approval),
    Sample { own: 403, ..post("/approvals/{approval_id}/approve", Named::Approval, "{}") },
    Sample { own: 403, ..post("/approvals/{approval_id}/reject", Named::Approval, "{}") },
    // Everybody may decide anyhow.
    Sample { well: 422, own: 403, ..post("/approvals/{approval_id}/delegate", Named::Approval, r#"{"to": "bob"}"#) },
    Sample { malformed: 403, ..get("/approvals/link/{token}", Named::Link) },
    Sample {
        malformed: 403,
        body: Some((FORM, "decision=approve")),
        ..post("/approvals/link/{token}", Named::Link, "")
    },
];

impl Sample {
    fn of(rule: &Rule) -> &'static Self {
        let found = SAMPLES.iter().find(|sample| sample.method == rule.method.as_str() && sample.path == rule.path);
        found.unwrap_or_else(|| {
            panic!(
                "{} {} is not tried: add it to SAMPLES in tests/gateway/matrix.rs, as \
                 get(\"{1}\", Named::…), act(\"{1}\", Named::…) or post(\"{1}\", Named::…, \"a sound body\")",
                rule.method, rule.path
            )
        })
    }
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Nobody,
    Unknown,
    Known(Role),
}

const CALLERS: [Who; 5] =
    [Who::Nobody, Who::Unknown, Who::Known(Role::User), Who::Known(Role::Agent), Who::Known(Role::Admin)];

impl Who {
    fn key(self) -> Option<String> {
        match self {
            Self::Nobody => None,
            Self::Unknown => Some("wrong-key".into()),
            Self::Known(role) => Some(format!("{role}-key")),
        }
    }

    /// The status with which the caller is turned away.
    fn refused(self, access: Access) -> Option<u16> {
        let needed = match access {
            Access::Anybody | Access::Link => return None,
            Access::Role(role) => role,
            Access::Approver => Role::Agent,
        };
        match self {
            Self::Nobody | Self::Unknown => Some(401),
            Self::Known(role) => (role < needed).then_some(403),
        }
    }
}

/// What an id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Object {
    Own,
    Others,
    Missing,
    Malformed,
}

const MISSING: &str = "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000";

/// What is put in the place of `{…}`, made anew: a decision changes it.
async fn id(gateway: &Running, named: Named, object: Object, who: Who) -> String {
    let maker = match (object, who.key()) {
        (Object::Own, Some(key)) => key,
        _ => "other-key".into(),
    };
    let made = async |task_type: &str, member: &str| {
        let body = json!({"type": task_type, "payload": {}}).to_string();
        let created = gateway.post("/tasks", &maker, &body).await;
        created.body[member].as_str().unwrap_or_else(|| panic!("{created:?}")).to_owned()
    };
    match (named, object) {
        (Named::Nothing, _) => String::new(),
        (_, Object::Malformed) => "no%20id".into(),
        (Named::Task, Object::Missing) => MISSING.into(),
        (Named::Task, _) => made("faq", "task_id").await,
        (Named::Schedule, Object::Missing) => format!("none-{}", rand::random::<u32>()),
        (Named::Schedule, _) => {
            let name = format!("n{}", rand::random::<u32>());
            let body = json!({"name": name, "cron": "@daily", "task": {"type": "faq", "payload": {}}}).to_string();
            let created = gateway.post("/schedules", &maker, &body).await;
            assert_eq!(created.status, 200, "{created:?}");
            name
        }
        (Named::Approval, Object::Missing) => format!("approval_{MISSING}"),
        (Named::Approval, _) => made("deploy", "approval_id").await,
        (Named::File, Object::Missing) => "none.js".into(),
        (Named::File, _) => "start.js".into(),
        (Named::Link, _) => {
            let id: ApprovalId = made("deploy", "approval_id").await.parse().unwrap();
            let mut approval = gateway.orch.approval(id).await.unwrap();
            if object == Object::Missing {
                approval.approval_id = format!("approval_{MISSING}").parse().unwrap();
            }
            tokens().mint_link(&approval, &Approver::named("alice"), Duration::from_secs(600)).unwrap()
        }
    }
}

async fn serving() -> Running {
    gated(ApprovalPolicy::default(), config().api_key("OTHER", "other-key", Role::Agent).unwrap()).await
}

async fn call(gateway: &Running, sample: &Sample, id: &str, who: Who, broken: bool) -> Answer {
    let mut path = format!("{}{}", sample.path, sample.query);
    if let (Some(begin), Some(end)) = (path.find('{'), path.find('}')) {
        path.replace_range(begin..=end, id);
    }
    let key = who.key();
    let mut headers: Vec<(&str, &str)> = key.iter().map(|key| ("X-API-Key", key.as_str())).collect();
    let (kind, text) = sample.body.unwrap_or_default();
    headers.extend(sample.body.map(|_| ("Content-Type", kind)));
    gateway.send(sample.method, &path, &headers, if broken { b"{" } else { text.as_bytes() }).await
}

fn document() -> Value {
    serde_json::from_str(&openapi()).unwrap()
}

/// What the document says of a route.
fn operation<'d>(document: &'d Value, rule: &Rule) -> &'d Value {
    let path = rule.path.replace("{*", "{");
    let operation = &document["paths"][&path][rule.method.as_str().to_ascii_lowercase()];
    assert!(operation.is_object(), "{} {} is not in the document", rule.method, rule.path);
    operation
}

#[tokio::test]
async fn every_route_lets_through_whom_it_has_to_and_answers_as_the_document_says() {
    let (gateway, document) = (serving().await, document());
    for rule in rules() {
        let (sample, operation) = (Sample::of(&rule), operation(&document, &rule));
        let objects: &[Object] = match sample.named {
            Named::Nothing => &[Object::Others],
            _ => &[Object::Own, Object::Others, Object::Missing, Object::Malformed],
        };
        for (who, object) in CALLERS.into_iter().flat_map(|who| objects.iter().map(move |object| (who, *object))) {
            let makes = matches!(who, Who::Known(role) if role >= Role::Agent);
            if object == Object::Own && !makes {
                continue;
            }
            let what = format!("{} {} by {who:?} about {object:?}", rule.method, rule.path);
            let id = id(&gateway, sample.named, object, who).await;
            let answer = call(&gateway, sample, &id, who, false).await;
            let expected = who.refused(rule.access).unwrap_or(match object {
                Object::Own => sample.own,
                Object::Others => sample.well,
                Object::Missing => sample.missing,
                Object::Malformed => sample.malformed,
            });
            assert_eq!(answer.status, expected, "{what}: {answer:?}");
            let mut answers = vec![answer];
            if sample.body.is_some() {
                // Whoever may not call is told so, whatever is sent.
                let broken = call(&gateway, sample, &id, who, true).await;
                match who.refused(rule.access) {
                    Some(status) => assert_eq!(broken.status, status, "{what}, broken: {broken:?}"),
                    None => assert!((400..500).contains(&broken.status), "{what}, broken: {broken:?}"),
                }
                answers.push(broken);
            }
            for answer in answers {
                let told = &operation["responses"][answer.status.to_string()];
                assert!(told.is_object(), "{what}: {} is not in the document", answer.status);
                assert_eq!(answer.headers.contains_key("www-authenticate"), answer.status == 401, "{what}");
                assert!(answer.headers.contains_key("x-request-id"), "{what}");
                let kind = answer.headers["content-type"].split(';').next().unwrap().to_owned();
                let told = match told["$ref"].as_str() {
                    Some(at) => document.pointer(at.trim_start_matches('#')).unwrap(),
                    None => told,
                };
                assert!(told["content"].get(&kind).is_some(), "{what}: {kind} is not in the document");
            }
        }
    }
}

#[test]
fn the_document_has_every_route_and_no_other_and_says_who_may_call() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let tags: BTreeSet<&str> = document["tags"].as_array().unwrap().iter().filter_map(|t| t["name"].as_str()).collect();
    let mut names = BTreeSet::new();
    for rule in rules() {
        let (operation, what) = (operation(&document, &rule), format!("{} {}", rule.method, rule.path));
        let security = match rule.access {
            Access::Anybody | Access::Link => json!([]),
            Access::Role(_) | Access::Approver => json!([{"token": []}, {"key": []}]),
        };
        assert_eq!(operation["security"], security, "{what}");
        if let Access::Role(role) = rule.access {
            let about = operation["description"].as_str().unwrap_or_default();
            assert!(about.contains(&format!("Needs the role `{role}`")), "{what}: {about}");
        }
        assert!(operation["summary"].as_str().is_some_and(|summary| summary.len() > 5), "{what} has no summary");
        let tag = operation["tags"][0].as_str().unwrap_or_default();
        assert!(tags.contains(tag), "{what} has the tag {tag:?}; those explained are {tags:?}");
        let name = operation["operationId"].as_str().unwrap_or_default();
        assert!(names.insert(name), "{what}: the operation id {name} is taken");
        assert!(operation["responses"].as_object().unwrap().keys().any(|status| status.as_str() < "400"), "{what}");
        assert_eq!(operation.get("requestBody").is_some(), Sample::of(&rule).body.is_some(), "{what}");
    }
    let paths = document["paths"].as_object().unwrap().values();
    assert_eq!(names.len(), paths.map(|path| path.as_object().unwrap().len()).sum::<usize>());
    assert_eq!(SAMPLES.len(), names.len(), "a sample is of no route, or of one that another is of");
}

#[test]
fn whatever_the_document_refers_to_is_in_it() {
    fn check(document: &Value, part: &Value) {
        match part {
            Value::Object(members) => {
                if let Some(Value::String(at)) = members.get("$ref") {
                    assert!(document.pointer(at.trim_start_matches('#')).is_some(), "{at} leads nowhere");
                }
                members.values().for_each(|member| check(document, member));
            }
            Value::Array(items) => items.iter().for_each(|item| check(document, item)),
            _ => {}
        }
    }
    let document = document();
    check(&document, &document);
}

/// Checks what can be told without a validator: every value of an example has a place in the schema, and nothing lacks.
fn fits(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(to) = schema["$ref"].as_str() {
        return fits(document, document.pointer(to.trim_start_matches('#')).unwrap(), value, at);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let is_null = |choice: &&Value| choice["type"] == "null";
        if value.is_null() {
            assert!(choices.iter().any(|choice| is_null(&choice)), "{at} is null");
        } else if let [one] = choices.iter().filter(|choice| !is_null(choice)).collect::<Vec<_>>()[..] {
            fits(document, one, value, at);
        }
        return;
    }
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{at}: {value} is none of {words:?}");
    }
    match (value, schema["properties"].as_object()) {
        (Value::Object(members), Some(known)) => {
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                assert!(members.contains_key(name), "{at} lacks {name}");
            }
            for (name, member) in members {
                let schema = known.get(name).unwrap_or_else(|| panic!("{at} has no {name}"));
                fits(document, schema, member, &format!("{at}.{name}"));
            }
        }
        (Value::Array(items), _) => items.iter().for_each(|item| fits(document, &schema["items"], item, at)),
        _ => {}
    }
}

#[test]
fn examples_are_what_their_schemas_say() {
    let document = document();
    let mut seen = 0;
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        if let Some(example) = schema.get("example").filter(|example| example.is_object()) {
            fits(&document, schema, example, name);
            seen += 1;
        }
    }
    assert!(seen >= 10, "{seen} examples");
}

#[tokio::test]
async fn answers_are_what_their_schemas_say() {
    let (gateway, document) = (serving().await, document());
    for rule in rules() {
        let sample = Sample::of(&rule);
        let id = id(&gateway, sample.named, Object::Others, Who::Known(Role::Admin)).await;
        let answer = call(&gateway, sample, &id, Who::Known(Role::Admin), false).await;
        let told = &operation(&document, &rule)["responses"][answer.status.to_string()];
        let schema = &told["content"]["application/json"]["schema"];
        if answer.status == 200 && !schema.is_null() {
            fits(&document, schema, &answer.body, &format!("{} {}", rule.method, rule.path));
        }
    }
}

#[tokio::test]
async fn the_page_and_the_document_are_served_whole_and_from_here_only() {
    let gateway = serving().await;
    let page = gateway.send("GET", "/docs", &[], b"").await;
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    let policy = &page.headers["content-security-policy"];
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe") && !policy.contains("http"));
    assert!(!page.text.contains("//"), "nothing is loaded from elsewhere: {}", page.text);
    let named: Vec<&str> = page.text.split('"').filter(|part| part.starts_with("docs/")).collect();
    assert_eq!(named.len(), 5);
    for file in named {
        // The picture is no text: its head is looked at only.
        let answer = gateway.send("HEAD", &format!("/{file}"), &[], b"").await;
        assert_eq!((answer.status, answer.headers["content-length"] == "0"), (200, false), "{file}: {answer:?}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    }
    let whole = gateway.send("GET", "/openapi.json", &[], b"").await;
    assert_eq!((whole.status, &whole.body), (200, &document()));
    let had = gateway.send("GET", "/openapi.json", &[("If-None-Match", &whole.headers["etag"])], b"").await;
    assert_eq!((had.status, had.text.as_str()), (304, ""));
}
