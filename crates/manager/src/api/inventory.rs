//! Containers, images, workloads and rule files.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use tw_model::Container;
use utoipa::{IntoParams, ToSchema};

use super::findings::store;
use super::listeners::ListenerItem;
use super::problem::{ApiProblem, Params, limit, rfc3339};
use super::shape;
use crate::state::State;

/// A container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ContainerItem {
    /// Full id.
    pub id: String,
    /// Node that it runs on.
    pub node: String,
    /// Workload that it belongs to.
    pub workload: String,
    /// First seen, RFC 3339.
    pub first_seen: String,
    /// Last known to be there, RFC 3339. Brought up to date every hour while it runs.
    pub last_seen: String,
    /// When it was found gone, RFC 3339; none while it is there.
    pub gone: Option<String>,
    /// The container as its runtime describes it.
    #[schema(value_type = shape::Container)]
    pub container: Container,
    /// Sockets that listen in it now.
    #[serde(default)]
    pub listening: Vec<ListenerItem>,
}

/// A page of containers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ContainerPage {
    /// The containers, by id.
    pub containers: Vec<ContainerItem>,
    /// `cursor` of the next page; none if this is the last.
    pub next: Option<String>,
}

/// An image that was seen in use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ImageItem {
    /// Id of the image, else its digest, else its name.
    pub id: String,
    /// Name that it was last used by.
    pub name: String,
    /// Digest; empty if unknown.
    pub digest: String,
    /// First seen, RFC 3339.
    pub first_seen: String,
    /// Last known to be in use, RFC 3339.
    pub last_seen: String,
    /// Containers of it that are there.
    pub running: i64,
}

/// A page of images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ImagePage {
    /// The images, by id.
    pub images: Vec<ImageItem>,
    /// `cursor` of the next page; none if this is the last.
    pub next: Option<String>,
}

/// A workload: what containers are replicas of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkloadItem {
    /// One text that names it.
    pub id: String,
    /// Kubernetes namespace or Compose project; empty if neither.
    pub namespace: String,
    /// `pod`, `compose` or `container`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Name of the container in it; empty unless it can have several.
    pub container: String,
    /// Image without tag and digest.
    pub image: String,
    /// First seen, RFC 3339.
    pub first_seen: String,
    /// Last known to be there, RFC 3339.
    pub last_seen: String,
    /// Containers of it that are there.
    pub running: i64,
}

/// A page of workloads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkloadPage {
    /// The workloads, by id.
    pub workloads: Vec<WorkloadItem>,
    /// `cursor` of the next page; none if this is the last.
    pub next: Option<String>,
}

/// A rule file, as it was in force for some time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RuleItem {
    /// Node that uses it.
    pub node: String,
    /// Path, or name within the default pack.
    pub name: String,
    /// SHA-256 of its bytes, hexadecimal.
    pub digest: String,
    /// First in force, RFC 3339.
    pub first_seen: String,
    /// Last in force, RFC 3339.
    pub last_seen: String,
    /// Whether it is in force now.
    pub in_force: bool,
}

/// Rule files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RulePage {
    /// The files: those in force first, then the newest. At most 1000.
    pub rules: Vec<RuleItem>,
}

/// Which page.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Page {
    /// 1 to 1000 a page; 100 if not given.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Which containers.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Containers {
    /// Also those that are gone.
    all: bool,
    /// 1 to 1000 a page; 100 if not given.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Cuts a list that was asked for one too many, and says where the next page begins.
fn cut<T>(mut rows: Vec<T>, limit: u32, id: impl Fn(&T) -> &str) -> (Vec<T>, Option<String>) {
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).map(|row| id(row).to_owned());
    (rows, next)
}

/// Containers, by id.
#[utoipa::path(get, path = "/api/v1/containers", params(Containers), responses(
    (status = 200, body = ContainerPage),
    (status = 400, body = ApiProblem, content_type = "application/problem+json"),
    (status = 503, body = ApiProblem, content_type = "application/problem+json"),
))]
pub(super) async fn containers(
    Shared(state): Shared<Arc<State>>,
    Params(page): Params<Containers>,
) -> Result<Json<ContainerPage>, ApiProblem> {
    let limit = limit(page.limit)?;
    let rows = store(&state)?.containers(page.all, limit + 1, &page.cursor.unwrap_or_default()).await?;
    let (rows, next) = cut(rows, limit, |row| &row.container.id);
    let listeners = state.listeners();
    let mut listening: HashMap<&str, Vec<ListenerItem>> = HashMap::new();
    for listener in listeners.iter().filter(|listener| !listener.container.is_empty()) {
        listening.entry(&listener.container).or_default().push(listener.into());
    }
    let containers = rows
        .into_iter()
        .map(|row| ContainerItem {
            id: row.container.id.clone(),
            node: row.node,
            workload: row.workload,
            first_seen: rfc3339(row.first_seen),
            last_seen: rfc3339(row.last_seen),
            gone: (row.gone > 0).then(|| rfc3339(row.gone)),
            listening: listening.remove(row.container.id.as_str()).unwrap_or_default(),
            container: row.container,
        })
        .collect();
    Ok(Json(ContainerPage { containers, next }))
}

/// Images that were seen in use, by id.
#[utoipa::path(get, path = "/api/v1/images", params(Page), responses(
    (status = 200, body = ImagePage),
    (status = 400, body = ApiProblem, content_type = "application/problem+json"),
    (status = 503, body = ApiProblem, content_type = "application/problem+json"),
))]
pub(super) async fn images(
    Shared(state): Shared<Arc<State>>,
    Params(page): Params<Page>,
) -> Result<Json<ImagePage>, ApiProblem> {
    let limit = limit(page.limit)?;
    let rows = store(&state)?.images(limit + 1, &page.cursor.unwrap_or_default()).await?;
    let (rows, next) = cut(rows, limit, |row| &row.id);
    let images = rows
        .into_iter()
        .map(|row| ImageItem {
            id: row.id,
            name: row.name,
            digest: row.digest,
            first_seen: rfc3339(row.first_seen),
            last_seen: rfc3339(row.last_seen),
            running: row.running,
        })
        .collect();
    Ok(Json(ImagePage { images, next }))
}

/// Workloads, by id.
#[utoipa::path(get, path = "/api/v1/workloads", params(Page), responses(
    (status = 200, body = WorkloadPage),
    (status = 400, body = ApiProblem, content_type = "application/problem+json"),
    (status = 503, body = ApiProblem, content_type = "application/problem+json"),
))]
pub(super) async fn workloads(
    Shared(state): Shared<Arc<State>>,
    Params(page): Params<Page>,
) -> Result<Json<WorkloadPage>, ApiProblem> {
    let limit = limit(page.limit)?;
    let rows = store(&state)?.workloads(limit + 1, &page.cursor.unwrap_or_default()).await?;
    let (rows, next) = cut(rows, limit, |row| &row.id);
    let workloads = rows
        .into_iter()
        .map(|row| WorkloadItem {
            id: row.id,
            namespace: row.workload.namespace,
            kind: row.workload.kind,
            name: row.workload.name,
            container: row.workload.container,
            image: row.workload.image,
            first_seen: rfc3339(row.first_seen),
            last_seen: rfc3339(row.last_seen),
            running: row.running,
        })
        .collect();
    Ok(Json(WorkloadPage { workloads, next }))
}

/// Rule files that are or were in force.
#[utoipa::path(get, path = "/api/v1/rules", responses(
    (status = 200, body = RulePage),
    (status = 503, body = ApiProblem, content_type = "application/problem+json"),
))]
pub(super) async fn rules(Shared(state): Shared<Arc<State>>) -> Result<Json<RulePage>, ApiProblem> {
    let rows = store(&state)?.rules(1000).await?;
    let rules = rows
        .into_iter()
        .map(|row| RuleItem {
            node: row.node,
            name: row.name,
            digest: row.digest,
            first_seen: rfc3339(row.first_seen),
            last_seen: rfc3339(row.last_seen),
            in_force: row.in_force,
        })
        .collect();
    Ok(Json(RulePage { rules }))
}
