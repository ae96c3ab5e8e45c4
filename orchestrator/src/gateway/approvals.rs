//! Approvals over HTTP, for callers with a credential.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::query::Pairs;
use super::tasks::unfit;
use super::tenant::Which;
use super::{Caller, Gateway, Problem};
use crate::approval::check_who;
use crate::{APPROVALS_MAX, Approval, ApprovalId, ApprovalStatus, Approver, Ballot, Decided, Error};

/// Decided approvals told unless the caller says how many.
const HISTORY_DEFAULT: usize = 100;

/// A yes. There need be no body at all.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with note, form and payload_hash, all optional")]
#[schema(as = Approve, example = json!({"note": "looks good"}))]
struct ApproveBody {
    /// Kept with the decision; at most 2,000 bytes.
    #[schema(max_length = 2000)]
    note: Option<String>,
    /// The fields that the approval asks for.
    form: Option<Map<String, Value>>,
    /// The `payload_hash` of what you were shown: a decision on something else is refused.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    payload_hash: Option<String>,
}

/// A no. There need be no body at all.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with reason and payload_hash, both optional")]
#[schema(as = Reject, example = json!({"reason": "Not ready"}))]
struct RejectBody {
    /// Why; at most 2,000 bytes. May stand in the query instead.
    #[schema(max_length = 2000)]
    reason: Option<String>,
    /// The `payload_hash` of what you were shown: a decision on something else is refused.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    payload_hash: Option<String>,
}

/// Somebody else who may decide.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with to")]
#[schema(as = Delegate, example = json!({"to": "role:lead"}))]
struct DelegateBody {
    /// A name, or a role as `role:NAME`.
    #[schema(pattern = "^[A-Za-z0-9_.@:+-]{1,128}$")]
    to: String,
}

/// Approvals that wait, newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct ApprovalsPending {
    success: bool,
    count: usize,
    /// How many there are in all; null to a tenant's caller when not all were looked at.
    total: Option<u64>,
    approvals: Vec<Approval>,
}

/// Approvals that are closed, newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct ApprovalsHistory {
    success: bool,
    count: usize,
    /// How many there are in all; null to a tenant's caller when not all were looked at.
    total: Option<u64>,
    history: Vec<Approval>,
}

/// One approval.
#[derive(Serialize, ToSchema)]
pub(super) struct ApprovalTold {
    success: bool,
    approval: Approval,
}

/// How an approval stands now.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "success": true,
    "approval_id": "approval_019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000",
    "message": "Approved by DEV",
    "status": "approved",
}))]
pub(super) struct ApprovalAnswer {
    success: bool,
    approval_id: ApprovalId,
    /// What was done, in words.
    message: String,
    status: ApprovalStatus,
    /// Who have said yes so far, while more have to.
    #[serde(skip_serializing_if = "Option::is_none")]
    votes: Option<u8>,
    /// How many have to say yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    quorum: Option<u8>,
}

type AskedId = Result<Path<String>, PathRejection>;

/// List what waits for a decision
#[utoipa::path(
    get, path = "/approvals/pending", tag = "approvals", operation_id = "list_pending_approvals",
    params(
        ("offset" = Option<usize>, Query, minimum = 0, maximum = 1_000_000, description = "How many to pass over; 0 unless told"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000, description = "How many at most; 1,000 unless told"),
    ),
    responses((status = 200, description = "Newest first", body = ApprovalsPending, links(
        ("read" = (operation_id = "read_approval", parameters(("approval_id" = "$response.body#/approvals/0/approval_id")))),
        ("approve" = (operation_id = "approve", parameters(("approval_id" = "$response.body#/approvals/0/approval_id")))),
        ("reject" = (operation_id = "reject", parameters(("approval_id" = "$response.body#/approvals/0/approval_id")))),
    ))),
)]
pub(super) async fn pending(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Result<Json<ApprovalsPending>, Problem> {
    let (offset, limit) = page_of(query, APPROVALS_MAX)?;
    let page = gateway.approvals_of(&caller, Which::Pending, offset..offset + limit).await?;
    let count = page.approvals.len();
    Ok(Json(ApprovalsPending { success: true, count, total: page.total, approvals: page.approvals }))
}

/// List what was decided
#[utoipa::path(
    get, path = "/approvals/history", tag = "approvals", operation_id = "list_decided_approvals",
    params(
        ("offset" = Option<usize>, Query, minimum = 0, maximum = 1_000_000, description = "How many to pass over; 0 unless told"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000, description = "How many at most; 100 unless told"),
    ),
    responses((status = 200, description = "Newest first", body = ApprovalsHistory)),
)]
pub(super) async fn history(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Result<Json<ApprovalsHistory>, Problem> {
    let (offset, limit) = page_of(query, HISTORY_DEFAULT)?;
    let page = gateway.approvals_of(&caller, Which::History, offset..offset + limit).await?;
    let count = page.approvals.len();
    Ok(Json(ApprovalsHistory { success: true, count, total: page.total, history: page.approvals }))
}

/// Read an approval
///
/// What is asked, who may decide, and what became of it.
#[utoipa::path(
    get, path = "/approvals/{approval_id}", tag = "approvals", operation_id = "read_approval",
    params(("approval_id" = ApprovalId, Path, description = "The approval")),
    responses((status = 200, description = "The approval in full", body = ApprovalTold)),
)]
pub(super) async fn read(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
) -> Result<Json<ApprovalTold>, Problem> {
    let approval = gateway.approval_of(&caller, id_of(id)?).await?;
    Ok(Json(ApprovalTold { success: true, approval }))
}

/// Say yes
///
/// The first decision counts. Where several have to say yes, this one is counted, and `status` stays `pending` until the
/// last. Who submitted a task may not decide on it.
#[utoipa::path(
    post, path = "/approvals/{approval_id}/approve", tag = "approvals", operation_id = "approve",
    params(("approval_id" = ApprovalId, Path, description = "The approval")),
    request_body = Option<ApproveBody>,
    responses(
        (status = 200, description = "It is approved, or the vote is counted", body = ApprovalAnswer),
        (status = 403, description = "The caller's role does not suffice, the caller submitted the task, or others have to decide"),
        (status = 409, description = "It was decided before, or is not what was shown; the text says by whom and how"),
    ),
)]
pub(super) async fn approve(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
    request: Request,
) -> Result<Json<ApprovalAnswer>, Problem> {
    let (id, approver) = (id_of(id)?, approver(&gateway, &caller)?);
    gateway.check_approval(&caller, id).await?;
    let asked: ApproveBody = gateway.read_optional(request).await?.unwrap_or_default();
    let mut ballot = Ballot::approve(approver).note(asked.note.as_deref().unwrap_or_default());
    if let Some(form) = asked.form {
        ballot = ballot.form(Value::Object(form));
    }
    decide(&gateway, id, &caller.name, shown(ballot, asked.payload_hash.as_deref())?).await
}

/// Say no
///
/// One no suffices: a task that has not begun is cancelled, a handler that asked is told.
#[utoipa::path(
    post, path = "/approvals/{approval_id}/reject", tag = "approvals", operation_id = "reject",
    params(
        ("approval_id" = ApprovalId, Path, description = "The approval"),
        ("reason" = Option<String>, Query, max_length = 2000, example = "Not ready",
         description = "Why; at most 2,000 bytes. May stand in the body instead"),
    ),
    request_body = Option<RejectBody>,
    responses(
        (status = 200, description = "It is rejected", body = ApprovalAnswer),
        (status = 403, description = "The caller's role does not suffice, the caller submitted the task, or others have to decide"),
        (status = 409, description = "It was decided before, or is not what was shown; the text says by whom and how"),
    ),
)]
pub(super) async fn reject(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Json<ApprovalAnswer>, Problem> {
    let (id, approver) = (id_of(id)?, approver(&gateway, &caller)?);
    gateway.check_approval(&caller, id).await?;
    let pairs = Pairs::read(query.unwrap_or_default().as_bytes());
    let asked: RejectBody = gateway.read_optional(request).await?.unwrap_or_default();
    let reason = match (pairs.one("reason")?, asked.reason.as_deref()) {
        (Some(one), Some(other)) if one != other => {
            return Err(unfit("the reason in the query and the one in the body differ; give one of them"));
        }
        (one, other) => one.or(other).unwrap_or_default(),
    };
    let ballot = Ballot::reject(approver).note(reason);
    decide(&gateway, id, &caller.name, shown(ballot, asked.payload_hash.as_deref())?).await
}

/// Let somebody else decide too
#[utoipa::path(
    post, path = "/approvals/{approval_id}/delegate", tag = "approvals", operation_id = "delegate",
    params(("approval_id" = ApprovalId, Path, description = "The approval")),
    request_body = DelegateBody,
    responses(
        (status = 200, description = "They may decide as well from now on", body = ApprovalAnswer),
        (status = 403, description = "The caller's role does not suffice, the caller submitted the task, or others have to decide"),
        (status = 409, description = "It was decided before; the text says by whom and how"),
    ),
)]
pub(super) async fn delegate(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
    request: Request,
) -> Result<Json<ApprovalAnswer>, Problem> {
    let (id, approver) = (id_of(id)?, approver(&gateway, &caller)?);
    gateway.check_approval(&caller, id).await?;
    let asked: Option<DelegateBody> = gateway.read_optional(request).await?;
    let to = asked.ok_or_else(|| unfit("say to whom: {\"to\": \"bob\"} or {\"to\": \"role:lead\"}"))?.to;
    gateway.change(gateway.orch.delegate(id, &approver, &to)).await.map_err(|error| unsure(&error))?;
    let message = format!("Delegated to {to} by {}", caller.name);
    let (status, votes, quorum) = (ApprovalStatus::Pending, None, None);
    Ok(Json(ApprovalAnswer { success: true, approval_id: id, message, status, votes, quorum }))
}

async fn decide(
    gateway: &Gateway,
    id: ApprovalId,
    name: &str,
    ballot: Ballot,
) -> Result<Json<ApprovalAnswer>, Problem> {
    let decided = gateway.change(gateway.orch.decide(id, &ballot)).await.map_err(|error| unsure(&error))?;
    let message = told(&decided, name);
    let (status, votes, quorum) = match decided {
        Decided::Done(status) => (status, None, None),
        Decided::Counted { votes, quorum } => (ApprovalStatus::Pending, Some(votes), Some(quorum)),
    };
    Ok(Json(ApprovalAnswer { success: true, approval_id: id, message, status, votes, quorum }))
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
