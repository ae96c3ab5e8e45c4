//! How promises were kept, and which are at risk.

use axum::extract::{RawQuery, State};
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use super::query::Pairs;
use super::schemas::SpanText;
use super::tenant::see_all;
use super::{Caller, Gateway, Problem};
use crate::{AtRisk, SlaRow, Span};

/// How promises were kept.
#[derive(Serialize, ToSchema)]
pub(super) struct SlaReportTold {
    success: bool,
    /// Whole hours looked back, beside the one that has begun.
    hours: u64,
    /// By type, then priority.
    rows: Vec<SlaRow>,
    /// All of them together.
    total: SlaRow,
}

/// The promises that are likely to be broken.
#[derive(Serialize, ToSchema)]
pub(super) struct SlaRisks {
    success: bool,
    count: usize,
    /// The one that is due next comes first.
    at_risk: Vec<AtRisk>,
}

/// Read how promises were kept
#[utoipa::path(
    get, path = "/sla/report", tag = "service levels", operation_id = "read_sla_report",
    params(("window" = inline(Option<SpanText>), Query, example = "24h",
        description = "How far to look back, from 1 hour to 31 days; 24 hours unless told")),
    responses((status = 200, description = "The report", body = SlaReportTold)),
)]
pub(super) async fn report(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Result<Json<SlaReportTold>, Problem> {
    see_all(&caller)?;
    let pairs = Pairs::read(query.unwrap_or_default().as_bytes());
    let window = Span::from(pairs.one("window")?.unwrap_or("24h"));
    let report = gateway.ask(gateway.orch.sla_report(window)).await?;
    Ok(Json(SlaReportTold { success: true, hours: report.hours, rows: report.rows, total: report.total }))
}

/// Read which promises are at risk
///
/// At the rates of the last minutes these tasks will not be done in time; each says what would help.
#[utoipa::path(
    get, path = "/sla/risk", tag = "service levels", operation_id = "read_sla_risk",
    responses((status = 200, description = "Those at risk", body = SlaRisks)),
)]
pub(super) async fn risk(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<SlaRisks>, Problem> {
    see_all(&caller)?;
    let at_risk = gateway.ask(gateway.orch.forecast()).await?;
    Ok(Json(SlaRisks { success: true, count: at_risk.len(), at_risk }))
}
