//! Approvals over HTTP, for callers with a credential.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::query::Pairs;
use super::tenant::Which;
use super::{Caller, Gateway, Problem, body, strict};
use crate::approval::check_who;
use crate::{APPROVALS_MAX, ApprovalId, Approver, Ballot, Decided, Error};

/// Decided approvals told unless the caller says how many.
const HISTORY_DEFAULT: usize = 100;

/// `POST /approvals/{approval_id}/approve`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with note, form and payload_hash, all optional")]
struct ApproveBody {
    note: Option<String>,
    form: Option<Map<String, Value>>,
    payload_hash: Option<String>,
}

/// `POST /approvals/{approval_id}/reject`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with reason and payload_hash, both optional")]
struct RejectBody {
    reason: Option<String>,
    payload_hash: Option<String>,
}

/// `POST /approvals/{approval_id}/delegate`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with to")]
struct DelegateBody {
    to: String,
}

type AskedId = Result<Path<String>, PathRejection>;

/// `GET /approvals/pending?offset=&limit=`
#[utoipa::path(get, path = "/approvals/pending")]
pub(super) async fn pending(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    let (offset, limit) = page_of(query, APPROVALS_MAX)?;
    let page = gateway.approvals_of(&caller, Which::Pending, offset..offset + limit).await?;
    let count = page.approvals.len();
    Ok(Json(json!({"success": true, "count": count, "total": page.total, "approvals": page.approvals})))
}

/// `GET /approvals/history?offset=&limit=`
#[utoipa::path(get, path = "/approvals/history")]
pub(super) async fn history(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    let (offset, limit) = page_of(query, HISTORY_DEFAULT)?;
    let page = gateway.approvals_of(&caller, Which::History, offset..offset + limit).await?;
    let count = page.approvals.len();
    Ok(Json(json!({"success": true, "count": count, "total": page.total, "history": page.approvals})))
}

/// `GET /approvals/{approval_id}`
#[utoipa::path(get, path = "/approvals/{approval_id}")]
pub(super) async fn read(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
) -> Result<Json<Value>, Problem> {
    let approval = gateway.approval_of(&caller, id_of(id)?).await?;
    Ok(Json(json!({"success": true, "approval": approval})))
}

/// `POST /approvals/{approval_id}/approve`
#[utoipa::path(post, path = "/approvals/{approval_id}/approve")]
pub(super) async fn approve(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (id, approver) = (id_of(id)?, approver(&gateway, &caller)?);
    gateway.check_approval(&caller, id).await?;
    let asked: ApproveBody = body_of(&gateway, request).await?.unwrap_or_default();
    let mut ballot = Ballot::approve(approver).note(asked.note.as_deref().unwrap_or_default());
    if let Some(form) = asked.form {
        ballot = ballot.form(Value::Object(form));
    }
    decide(&gateway, id, &caller.name, shown(ballot, asked.payload_hash.as_deref())?).await
}

/// `POST /approvals/{approval_id}/reject`
#[utoipa::path(post, path = "/approvals/{approval_id}/reject")]
pub(super) async fn reject(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (id, approver) = (id_of(id)?, approver(&gateway, &caller)?);
    gateway.check_approval(&caller, id).await?;
    let pairs = Pairs::read(query.unwrap_or_default().as_bytes());
    let asked: RejectBody = body_of(&gateway, request).await?.unwrap_or_default();
    let reason = match (pairs.one("reason")?, asked.reason.as_deref()) {
        (Some(one), Some(other)) if one != other => {
            return Err(unfit("the reason in the query and the one in the body differ; give one of them"));
        }
        (one, other) => one.or(other).unwrap_or_default(),
    };
    let ballot = Ballot::reject(approver).note(reason);
    decide(&gateway, id, &caller.name, shown(ballot, asked.payload_hash.as_deref())?).await
}

/// `POST /approvals/{approval_id}/delegate`
#[utoipa::path(post, path = "/approvals/{approval_id}/delegate")]
pub(super) async fn delegate(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (id, approver) = (id_of(id)?, approver(&gateway, &caller)?);
    gateway.check_approval(&caller, id).await?;
    let asked: Option<DelegateBody> = body_of(&gateway, request).await?;
    let to = asked.ok_or_else(|| unfit("say to whom: {\"to\": \"bob\"} or {\"to\": \"role:lead\"}"))?.to;
    gateway.orch.delegate(id, &approver, &to).await.map_err(|error| unsure(&error))?;
    let message = format!("Delegated to {to} by {}", caller.name);
    Ok(Json(json!({"success": true, "approval_id": id, "message": message, "status": "pending"})))
}

async fn decide(gateway: &Gateway, id: ApprovalId, name: &str, ballot: Ballot) -> Result<Json<Value>, Problem> {
    let decided = gateway.orch.decide(id, &ballot).await.map_err(|error| unsure(&error))?;
    let message = told(&decided, name);
    Ok(Json(match decided {
        Decided::Done(status) => {
            json!({"success": true, "approval_id": id, "message": message, "status": status})
        }
        Decided::Counted { votes, quorum } => json!({
            "success": true, "approval_id": id, "message": message, "status": "pending", "votes": votes,
            "quorum": quorum,
        }),
    }))
}

/// What a ballot has done, in words.
pub(super) fn told(decided: &Decided, name: &str) -> String {
    match decided {
        Decided::Counted { votes, quorum } => format!("Vote of {name} counted: {votes} of {quorum}"),
        Decided::Done(crate::ApprovalStatus::Approved) => format!("Approved by {name}"),
        Decided::Done(_) => format!("Rejected by {name}"),
    }
}

/// A decision that failed, or of which nobody knows.
pub(super) fn unsure(error: &Error) -> Problem {
    match error {
        Error::Unavailable { .. } => {
            let state = super::health::state(error);
            tracing::warn!(%error, "an approval was decided on and no answer came");
            let said = format!(
                "Redis does not serve now: {state}. Whether the decision was taken is not known; look at the approval"
            );
            Problem::unavailable(said, 2).with("redis", state)
        }
        other => Problem::of(other),
    }
}

/// A caller as one who decides.
fn approver(gateway: &Gateway, caller: &Caller) -> Result<Approver, Problem> {
    if check_who(&caller.name).is_err() {
        let said = format!(
            "`{}` cannot decide: the name of an approver has letters, digits and _ . - @ : + only",
            crate::error::excerpt(&caller.name)
        );
        return Err(Problem::new(StatusCode::FORBIDDEN, said));
    }
    let own = caller.role.to_string();
    let roles = std::iter::once(&own).chain(&caller.groups).chain(gateway.roles.of(&caller.name));
    Ok(roles.fold(Approver::named(&caller.name), |approver, role| approver.role(role)))
}

/// What is no approval's id is the id of none.
fn id_of(id: AskedId) -> Result<ApprovalId, Problem> {
    let unknown = |what: String| Problem::new(StatusCode::NOT_FOUND, what);
    let Path(id) = id.map_err(|_| unknown("an approval id is plain text".into()))?;
    id.parse().map_err(|error: Error| unknown(error.to_string()))
}

/// How many to pass over, and how many to tell.
fn page_of(query: Option<String>, default: usize) -> Result<(usize, usize), Problem> {
    let pairs = Pairs::read(query.unwrap_or_default().as_bytes());
    let number = |name: &str, default: usize, bounds: std::ops::RangeInclusive<usize>| {
        let Some(text) = pairs.one(name)? else { return Ok(default) };
        text.parse().ok().filter(|number| bounds.contains(number)).ok_or_else(|| {
            let given = crate::error::excerpt(text);
            unfit(&format!("{name}: `{given}` is no number from {} to {}", bounds.start(), bounds.end()))
        })
    };
    Ok((number("offset", 0, 0..=1_000_000)?, number("limit", default, 1..=APPROVALS_MAX)?))
}

/// The ballot, bound to what its caller says that they were shown.
fn shown(ballot: Ballot, hash: Option<&str>) -> Result<Ballot, Problem> {
    match hash {
        None => Ok(ballot),
        Some(hash) if hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) => {
            Ok(ballot.shown(hash))
        }
        Some(_) => {
            Err(unfit("payload_hash: send the payload_hash of the approval as it was told, 64 hexadecimal digits"))
        }
    }
}

/// The body, if there is one. Clients that send none name all kinds of types for it.
async fn body_of<T: DeserializeOwned>(gateway: &Gateway, request: Request) -> Result<Option<T>, Problem> {
    let typed = body::check_type(request.headers());
    let bytes = body::take(request, gateway.body).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    typed?;
    let _room = gateway.room.acquire().await;
    strict::from_slice(&bytes)
}

fn unfit(what: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, what)
}
