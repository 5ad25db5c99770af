//! Status and problems.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use tw_model::link::SupervisorStatus;
use tw_model::status::{AgentStatus, Problem, Usage};
use utoipa::ToSchema;

use super::shape;
use crate::state::State;
use crate::store::{Kind, SCHEMA};
use crate::usage;

/// The store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StoreOverview {
    /// Where it is, without password.
    pub url: String,
    /// Whether it is open and took what it was last given.
    pub up: bool,
    /// What is wrong, if something is.
    pub error: Option<String>,
    /// Bytes that it takes.
    pub bytes: u64,
    /// Rows by kind.
    pub rows: BTreeMap<String, u64>,
    /// Schema that this program knows.
    pub schema: i64,
}

/// The manager.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ManagerOverview {
    /// Version of the program.
    pub version: String,
    /// Its process number.
    pub pid: u32,
    /// When it began, nanoseconds since the epoch.
    pub started_ns: u64,
    /// How often the supervisor started it again.
    pub restarts: u64,
    /// The store.
    pub store: StoreOverview,
    /// Memory and time.
    #[schema(value_type = shape::Usage)]
    pub usage: Usage,
}

/// The link between manager and agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LinkOverview {
    /// Whether it stands.
    pub up: bool,
    /// Since when it is so, nanoseconds since the epoch.
    pub since_ns: u64,
    /// Seconds since the agent's last status; none if it never said anything.
    pub heard: Option<f64>,
    /// Findings that the agent has and the store has not, as of that status.
    pub lag: u64,
    /// Why it is down, if it is.
    pub error: Option<String>,
}

/// The watch over the pods of this node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct KubernetesOverview {
    /// Where the API of Kubernetes is; empty while that is not known.
    pub server: String,
    /// Name of this node in Kubernetes.
    pub node: String,
    /// Whether pods are watched now.
    pub up: bool,
    /// Pods known.
    pub pods: u64,
    /// When the API last told of pods, nanoseconds since the epoch; 0: never.
    pub heard_ns: u64,
    /// How often all pods were listed.
    pub lists: u64,
    /// What is wrong, if something is.
    pub error: Option<String>,
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Overview {
    /// The manager.
    pub manager: ManagerOverview,
    /// The agent's last status. `link.heard` says how old it is.
    #[schema(value_type = Option<shape::AgentStatus>)]
    pub agent: Option<AgentStatus>,
    /// The link to it.
    pub link: LinkOverview,
    /// The watch over pods, if there is one.
    #[serde(default)]
    pub kubernetes: Option<KubernetesOverview>,
    /// The supervisor's word, if there is a supervisor.
    #[schema(value_type = Option<shape::SupervisorStatus>)]
    pub supervisor: Option<SupervisorStatus>,
    /// What is not as it should be.
    #[schema(value_type = Vec<shape::Problem>)]
    pub problems: Vec<Problem>,
}

/// Problems.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProblemPage {
    /// What is not as it should be; empty if all is well.
    #[schema(value_type = Vec<shape::Problem>)]
    pub problems: Vec<Problem>,
}

impl Overview {
    /// As of now.
    pub(crate) fn of(state: &State) -> Self {
        let supervisor = state.supervisor();
        let problems = state.problems(supervisor.as_ref());
        let inner = state.lock();
        let link = &inner.link;
        let lanes = link.agent.iter().flat_map(|agent| &agent.spool).flat_map(|spool| &spool.lanes);
        let store = StoreOverview {
            url: state.place.shown(),
            up: inner.store.is_some() && inner.trouble().is_none(),
            error: inner.trouble().map(ToString::to_string),
            bytes: inner.bytes,
            rows: Kind::ALL
                .iter()
                .map(|kind| (kind.name().to_owned(), inner.rows.get(kind).copied().unwrap_or(0)))
                .collect(),
            schema: SCHEMA,
        };
        Self {
            manager: ManagerOverview {
                version: state.version.clone(),
                pid: std::process::id(),
                started_ns: state.started_ns,
                restarts: state.restarts,
                store,
                usage: usage::own(),
            },
            agent: link.agent.clone(),
            link: LinkOverview {
                up: link.up,
                since_ns: link.since_ns,
                heard: link.heard.map(|heard| heard.elapsed().as_secs_f64()),
                lag: lanes.map(|lane| lane.newest.saturating_sub(lane.acked)).sum(),
                error: (!link.up).then(|| link.reason.clone()),
            },
            kubernetes: state.kubernetes.as_ref().map(|kubernetes| {
                let standing = kubernetes.standing();
                KubernetesOverview {
                    error: standing.trouble(),
                    server: standing.server,
                    node: kubernetes.options.node.clone(),
                    up: standing.up,
                    pods: kubernetes.known() as u64,
                    heard_ns: standing.heard_ns,
                    lists: standing.lists,
                }
            }),
            supervisor,
            problems,
        }
    }
}

/// How the service is.
#[utoipa::path(get, path = "/api/v1/status", responses((status = 200, body = Overview)))]
pub(super) async fn status(Shared(state): Shared<Arc<State>>) -> Json<Overview> {
    Json(Overview::of(&state))
}

/// What is not as it should be, each with its remedy.
#[utoipa::path(get, path = "/api/v1/problems", responses((status = 200, body = ProblemPage)))]
pub(super) async fn problems(Shared(state): Shared<Arc<State>>) -> Json<ProblemPage> {
    Json(ProblemPage { problems: state.problems(state.supervisor().as_ref()) })
}
