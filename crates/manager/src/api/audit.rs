//! The audit.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::findings::store;
use super::problem::{ApiProblem, Params, cursor, limit, moment, place, rfc3339};
use crate::state::{State, now_us};
use crate::store::AuditFilter;

/// Who did what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditLine {
    /// Its id.
    pub id: String,
    /// When, RFC 3339.
    pub time: String,
    /// Who, such as `uid 0 (pid 4711)` or `retention`.
    pub actor: String,
    /// What, such as `reload`.
    pub action: String,
    /// To what.
    pub target: String,
    /// More.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
}

/// A page of the audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// The lines, newest first.
    pub audit: Vec<AuditLine>,
    /// `cursor` of the next page; none if this is the last.
    pub next: Option<String>,
}

/// Which lines.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Filter {
    /// From this time on: RFC 3339, or how long ago, such as `7d`.
    since: Option<String>,
    /// 1 to 1000 lines a page; 100 if not given.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Who changed what, newest first.
#[utoipa::path(get, path = "/api/v1/audit", operation_id = "audit", params(Filter), responses(
    (status = 200, body = AuditPage),
    (status = 400, body = ApiProblem, content_type = "application/problem+json"),
    (status = 503, body = ApiProblem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    Params(filter): Params<Filter>,
) -> Result<Json<AuditPage>, ApiProblem> {
    let limit = limit(filter.limit)?;
    let since_us = filter.since.map(|text| moment("since", &text, now_us())).transpose()?;
    let after = filter.cursor.map(|cursor| place(&cursor)).transpose()?;
    let mut rows = store(&state)?.audits(&AuditFilter { since_us, limit: limit + 1, after }).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).map(|row| cursor(row.time_us, &row.id));
    let audit = rows
        .into_iter()
        .map(|row| AuditLine {
            id: row.id,
            time: rfc3339(row.time_us),
            actor: row.actor,
            action: row.action,
            target: row.target,
            detail: row.detail,
        })
        .collect();
    Ok(Json(AuditPage { audit, next }))
}
