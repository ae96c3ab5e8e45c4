//! How promises were kept, and which are at risk.

use axum::extract::{RawQuery, State};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::query::Pairs;
use super::tenant::see_all;
use super::{Caller, Gateway, Problem};
use crate::Span;

/// `GET /sla/report?window=24h`
#[utoipa::path(get, path = "/sla/report")]
pub(super) async fn report(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    see_all(&caller)?;
    let pairs = Pairs::read(query.unwrap_or_default().as_bytes());
    let window = Span::from(pairs.one("window")?.unwrap_or("24h"));
    let report = gateway.ask(gateway.orch.sla_report(window)).await?;
    Ok(Json(json!({"success": true, "hours": report.hours, "rows": report.rows, "total": report.total})))
}

/// `GET /sla/risk`
#[utoipa::path(get, path = "/sla/risk")]
pub(super) async fn risk(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, Problem> {
    see_all(&caller)?;
    let at_risk = gateway.ask(gateway.orch.forecast()).await?;
    Ok(Json(json!({"success": true, "count": at_risk.len(), "at_risk": at_risk})))
}
