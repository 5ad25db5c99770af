//! Findings.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tw_model::{Finding, Priority};
use utoipa::{IntoParams, ToSchema};

use super::problem::{ApiProblem, Params, cursor, limit, moment, place, rfc3339, shown};
use super::shape;
use crate::state::{State, now_us};
use crate::store::{Container, FindingFilter, Found, Order, Store, StoredFinding};

/// A finding, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FindingItem {
    /// Its id: 26 characters.
    pub id: String,
    /// When it happened, RFC 3339.
    pub time: String,
    /// When it was stored, RFC 3339. Never earlier than that of a finding stored before.
    pub received: String,
    /// Node that found it.
    pub node: String,
    /// Workload of its container, `unit/NAME` or `host` on the host; empty if it is not known.
    pub workload: String,
    /// The finding itself.
    #[schema(value_type = shape::Finding)]
    pub finding: Finding,
}

/// A page of findings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FindingPage {
    /// The findings, in the order that was asked for.
    pub findings: Vec<FindingItem>,
    /// `cursor` of the next page; none if this is the last.
    pub next: Option<String>,
}

/// In which order.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Sequence {
    /// Newest first.
    #[default]
    Desc,
    /// Oldest first.
    Asc,
}

/// Which findings.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Filter {
    /// From this time on: RFC 3339, or how long ago, such as `15m`, `1h30m`, `7d`.
    since: Option<String>,
    /// Before this time: RFC 3339, or how long ago.
    until: Option<String>,
    /// This priority or worse, such as `warning`.
    priority: Option<String>,
    /// Name of the rule.
    rule: Option<String>,
    /// Name of the container, or the start of its id.
    container: Option<String>,
    /// Image as its user named it.
    image: Option<String>,
    /// Part of the message.
    q: Option<String>,
    /// 1 to 1000 findings a page; 100 if not given.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// `desc` (newest first) or `asc`.
    #[param(inline)]
    order: Sequence,
}

pub(super) fn store(state: &State) -> Result<Store, ApiProblem> {
    if let Some(store) = state.store() {
        return Ok(store);
    }
    let fault = state.lock().fault.clone();
    Err(fault.map_or_else(
        || {
            ApiProblem::new(StatusCode::SERVICE_UNAVAILABLE, "the store is not open yet")
                .with_remedy("wait a moment; if it stays so, `tidewatch status` says why")
                .with_code("store-unavailable")
        },
        ApiProblem::from,
    ))
}

impl Filter {
    fn read(self) -> Result<FindingFilter, ApiProblem> {
        let now = now_us();
        let moment = |name, text: Option<String>| text.map(|text| moment(name, &text, now)).transpose();
        let priority = self.priority.map(|name| {
            Priority::parse(&name).ok_or_else(|| {
                let names: Vec<_> = Priority::ALL.iter().map(|priority| priority.name().to_lowercase()).collect();
                ApiProblem::bad(format!("`priority` is {}", shown(&name)), format!("give one of {}", names.join(", ")))
            })
        });
        Ok(FindingFilter {
            since_us: moment("since", self.since)?,
            until_us: moment("until", self.until)?,
            priority: priority.transpose()?,
            rule: self.rule,
            container: self.container.filter(|named| !named.is_empty()).map(Container),
            image: self.image,
            text: self.q.filter(|text| !text.is_empty()),
            limit: limit(self.limit)?,
            after: self.cursor.map(|cursor| place(&cursor)).transpose()?,
            order: match self.order {
                Sequence::Desc => Order::Newest,
                Sequence::Asc => Order::Oldest,
            },
        })
    }
}

impl From<StoredFinding> for FindingItem {
    fn from(stored: StoredFinding) -> Self {
        Self {
            id: stored.finding.id.to_string(),
            time: rfc3339(stored.time_us),
            received: rfc3339(stored.received_us),
            node: stored.node,
            workload: stored.workload,
            finding: stored.finding,
        }
    }
}

/// Findings that pass a filter, page by page.
#[utoipa::path(get, path = "/api/v1/findings", operation_id = "findings", params(Filter), responses(
    (status = 200, body = FindingPage),
    (status = 400, body = ApiProblem, content_type = "application/problem+json"),
    (status = 503, body = ApiProblem, content_type = "application/problem+json", description = "The store is away."),
))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    Params(filter): Params<Filter>,
) -> Result<Json<FindingPage>, ApiProblem> {
    let mut filter = filter.read()?;
    let wanted = filter.limit as usize;
    // One more shows whether there is a next page.
    filter.limit += 1;
    let mut rows = store(&state)?.findings(&filter).await?;
    let more = rows.len() > wanted;
    rows.truncate(wanted);
    let last = rows.last().filter(|_| more);
    let next = last.map(|row| cursor(row.time_us, &row.finding.id.to_string()));
    Ok(Json(FindingPage { findings: rows.into_iter().map(FindingItem::from).collect(), next }))
}

/// One finding, by its id or by the first characters of it, six at least.
#[utoipa::path(get, path = "/api/v1/findings/{id}", operation_id = "finding",
    params(("id" = String, Path, description = "Id, or its first characters.")),
    responses(
        (status = 200, body = FindingItem),
        (status = 400, body = ApiProblem, content_type = "application/problem+json"),
        (status = 404, body = ApiProblem, content_type = "application/problem+json"),
        (status = 409, body = ApiProblem, content_type = "application/problem+json",
            description = "More than one id begins so."),
        (status = 503, body = ApiProblem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(
    Shared(state): Shared<Arc<State>>,
    Path(id): Path<String>,
) -> Result<Json<FindingItem>, ApiProblem> {
    if id.len() < 6 {
        return Err(ApiProblem::bad(format!("{} is too short for an id", shown(&id)), "give six characters at least"));
    }
    match store(&state)?.finding(&id).await? {
        Found::One(stored) => Ok(Json((*stored).into())),
        Found::None => Err(ApiProblem::not_found(format!("there is no finding {}", shown(&id)))
            .with_remedy("retention may have deleted it; `tidewatch findings` lists what there is")),
        Found::Many => {
            let detail = format!("more than one finding begins with {}", shown(&id));
            Err(ApiProblem::new(StatusCode::CONFLICT, detail).with_remedy("give more characters of the id"))
        }
    }
}
