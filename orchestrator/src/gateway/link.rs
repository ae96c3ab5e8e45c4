//! Links to one approval for one approver: a page that shows what is asked, and a form that decides, once.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::link_token::{Link, Spoilt};
use super::query::Pairs;
use super::{Gateway, Problem, approvals, body, page, strict};
use crate::{Approval, ApprovalStatus, Approver, Ballot, Decided};

/// Why nothing was shown or decided.
struct Refusal {
    status: StatusCode,
    title: &'static str,
    what: String,
}

impl Refusal {
    fn new(status: StatusCode, title: &'static str, what: impl Into<String>) -> Self {
        Self { status, title, what: what.into() }
    }

    fn of(problem: &Problem) -> Self {
        let (status, what) = problem.said();
        let title = match status {
            StatusCode::CONFLICT => "This cannot be decided any more",
            StatusCode::FORBIDDEN => "You may not decide on this",
            StatusCode::NOT_FOUND => "This is not known",
            StatusCode::UNPROCESSABLE_ENTITY => "The form does not fit",
            status if status.is_server_error() => "It does not work now",
            _ => "It was not taken",
        };
        Self::new(status, title, what)
    }

    fn page(&self) -> Response {
        page::saying(self.status, self.title, &self.what)
    }
}

/// The form of the page.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it is only described; forms are read field by field")]
struct LinkForm {
    decision: LinkDecision,
    /// A note, or the reason for a no; at most 2,000 bytes.
    #[schema(max_length = 2000)]
    note: Option<String>,
}

/// Yes or no.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code, reason = "it is only described")]
enum LinkDecision {
    /// Yes.
    Approve,
    /// No.
    Reject,
}

/// Show what a link asks
///
/// A page with the question, what is to be approved, and a form. It decides nothing: mail programs and chats look at links
/// too.
#[utoipa::path(
    get, path = "/approvals/link/{token}", tag = "links", operation_id = "show_link",
    params(("token" = String, Path, description = "The signed part of the link")),
    responses(
        (status = 200, description = "The page", content_type = "text/html", body = String),
        (status = 403, description = "The link was not made here, or was changed", content_type = "text/html", body = String),
        (status = 409, description = "It was decided before, or is not what was shown", content_type = "text/html", body = String),
        (status = 410, description = "The link has expired", content_type = "text/html", body = String),
    ),
)]
pub(super) async fn show(State(gateway): State<Gateway>, token: Result<Path<String>, PathRejection>) -> Response {
    let link = match good(&gateway, token) {
        Ok(link) => link,
        Err(refusal) => return refusal.page(),
    };
    match asked(&gateway, &link).await {
        Ok(approval) => page::asking(&approval, &link),
        Err(refusal) => refusal.page(),
    }
}

/// Decide by a link
///
/// What the form of the page does: it decides once, as the approver for whom the link was made. The fields that the approval
/// asks for are sent as `form.NAME`.
#[utoipa::path(
    post, path = "/approvals/link/{token}", tag = "links", operation_id = "decide_by_link",
    params(("token" = String, Path, description = "The signed part of the link")),
    request_body(content = LinkForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "What was done, as a page", content_type = "text/html", body = String),
        (status = 403, description = "The link was not made here, or its approver may not decide", content_type = "text/html", body = String),
        (status = 409, description = "It was decided before, or is not what was shown", content_type = "text/html", body = String),
        (status = 410, description = "The link has expired", content_type = "text/html", body = String),
    ),
)]
pub(super) async fn decide(
    State(gateway): State<Gateway>,
    token: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let link = match good(&gateway, token) {
        Ok(link) => link,
        Err(refusal) => return refusal.page(),
    };
    match take(&gateway, &link, request).await {
        Ok(decided) => {
            let (title, more) = match decided {
                Decided::Counted { .. } => ("Your vote counts", "It needs more votes than this one."),
                Decided::Done(ApprovalStatus::Approved) => ("Approved", "The task goes on."),
                Decided::Done(_) => ("Rejected", "The task will not do what was asked."),
            };
            let what = format!("{}. {more} This link cannot be used again.", approvals::told(&decided, &link.sub));
            page::saying(StatusCode::OK, title, &what)
        }
        Err(refusal) => refusal.page(),
    }
}

/// The link, when it is one of ours and its time is not over.
fn good(gateway: &Gateway, token: Result<Path<String>, PathRejection>) -> Result<Link, Refusal> {
    let Some(tokens) = &gateway.tokens else {
        let what =
            "Links are not taken here: this gateway has no secret to judge them by. Use the command line or the API.";
        return Err(Refusal::new(StatusCode::NOT_FOUND, "No links here", what));
    };
    let read = token.map_err(|_| Spoilt::Wrong).and_then(|Path(token)| tokens.link(&token));
    read.map_err(|spoilt| match spoilt {
        Spoilt::Expired => {
            Refusal::new(StatusCode::GONE, "This link has expired", "Ask whoever sent it to you for a new one.")
        }
        Spoilt::Wrong => Refusal::new(
            StatusCode::FORBIDDEN,
            "This link is not good",
            "It was not made for this gateway, or was changed on its way. Copy all of it, or ask for a new one.",
        ),
    })
}

/// What the link asks about, while it can still be decided by it.
async fn asked(gateway: &Gateway, link: &Link) -> Result<Approval, Refusal> {
    let approval =
        gateway.ask(gateway.orch.approval(link.apr)).await.map_err(|error| Refusal::of(&Problem::of(&error)))?;
    let no = |title: &'static str, what: String| Err(Refusal::new(StatusCode::CONFLICT, title, what));
    if approval.status != ApprovalStatus::Pending {
        let by = approval.approved_by.as_ref().map(|who| format!(" by {who}")).unwrap_or_default();
        let why = approval.rejection_reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        return no("This was decided before", format!("{} was closed as {}{by}{why}.", link.apr, approval.status));
    }
    if approval.votes.iter().any(|vote| approver(gateway, link).is_called(&vote.by)) {
        let what = format!("{} has voted on {}, and this link counts once.", link.sub, link.apr);
        return no("This link has been used", what);
    }
    if approval.payload_hash != link.hash {
        let what = "What is asked is not what it was when this link was made. Ask for a new one.";
        return no("This link is outdated", what.into());
    }
    Ok(approval)
}

async fn take(gateway: &Gateway, link: &Link, request: Request) -> Result<Decided, Refusal> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let what = "Send the form of the page, as application/x-www-form-urlencoded.";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "This is no form", what));
    }
    let bytes = body::take(request, gateway.body).await.map_err(|problem| Refusal::of(&problem))?;
    let pairs = Pairs::read(&bytes);
    let approval = asked(gateway, link).await?;
    let ballot = ballot(&pairs, &approval, approver(gateway, link)).map_err(|problem| Refusal::of(&problem))?;
    let ballot = ballot.shown(&link.hash).once(&link.jti);
    gateway.orch.decide(link.apr, &ballot).await.map_err(|error| Refusal::of(&approvals::unsure(&error)))
}

/// The form as a ballot.
fn ballot(pairs: &Pairs, approval: &Approval, approver: Approver) -> Result<Ballot, Problem> {
    let unfit = |what: &str| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, what);
    let note = pairs.one("note")?.unwrap_or_default().trim();
    match pairs.one("decision")? {
        Some("approve") => {
            let mut form = Map::new();
            for (field, value) in pairs.under("form.") {
                if form.insert(field.into(), told(value)).is_some() {
                    return Err(unfit("a field of the form is given twice; give it once"));
                }
            }
            let ballot = Ballot::approve(approver).note(note);
            Ok(if form.is_empty() && approval.form.is_empty() { ballot } else { ballot.form(Value::Object(form)) })
        }
        Some("reject") => Ok(Ballot::reject(approver).note(note)),
        _ => Err(unfit("nothing was decided: the field `decision` is approve or reject")),
    }
}

/// What was written into a field: JSON when it reads as that and is kept exactly, else text. A form knows the names of its
/// fields, not what they hold.
fn told(written: &str) -> Value {
    match serde_json::from_str(written.trim()) {
        Ok(value) if strict::inexact(written.trim().as_bytes()).is_none() => value,
        _ => Value::from(written),
    }
}

/// The approver that the token names, with the roles that it and this gateway vouch for.
fn approver(gateway: &Gateway, link: &Link) -> Approver {
    let roles = link.groups.iter().chain(gateway.roles.of(&link.sub));
    roles.fold(Approver::named(&link.sub), |approver, role| approver.role(role))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_reads_as_json_is_taken_as_such_and_the_rest_as_text() {
        for (written, value) in [
            ("noon", json!("noon")),
            ("3", json!(3)),
            (" true ", json!(true)),
            ("\"3\"", json!("3")),
            ("", json!("")),
            ("007", json!("007")),
            ("123456789012345678901", json!("123456789012345678901")),
        ] {
            assert_eq!(told(written), value, "{written}");
        }
    }
}
