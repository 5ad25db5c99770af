//! Sockets that listen, as the agent sees them now: nothing of it is stored.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use tw_model::listener::Listener;
use utoipa::{IntoParams, ToSchema};

use super::problem::{ApiProblem, Params, limit, rfc3339};
use crate::state::State;

/// A socket that listens for connections, or is bound to a port for datagrams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListenerItem {
    /// Id of the container; empty: on the host.
    pub container: String,
    /// `tcp`, `udp`, `mptcp`, `sctp`, else the number of the protocol.
    pub protocol: String,
    /// Address that it listens on; `::` and `0.0.0.0` are all.
    pub address: String,
    /// Port.
    pub port: u16,
    /// Name of the process that began to listen; empty if unknown.
    pub process: String,
    /// Its number on the host; 0 if unknown.
    pub pid: u32,
    /// When it began, RFC 3339; none: before the agent looked.
    pub since: Option<String>,
}

impl From<&Listener> for ListenerItem {
    fn from(listener: &Listener) -> Self {
        let since_us = i64::try_from(listener.since_ns / 1000).unwrap_or(i64::MAX);
        Self {
            container: listener.container.clone(),
            protocol: listener.protocol.clone(),
            address: listener.address.to_string(),
            port: listener.port,
            process: listener.process.clone(),
            pid: listener.pid,
            since: (since_us > 0).then(|| rfc3339(since_us)),
        }
    }
}

/// A page of sockets that listen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListenerPage {
    /// The sockets: those of the host first, then by container.
    pub listeners: Vec<ListenerItem>,
    /// `cursor` of the next page; none if this is the last.
    pub next: Option<String>,
}

/// Which sockets.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Listeners {
    /// 1 to 1000 a page; 100 if not given.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Sockets that listen now, on the host and in containers.
#[utoipa::path(get, path = "/api/v1/listeners", params(Listeners), responses(
    (status = 200, body = ListenerPage),
    (status = 400, body = ApiProblem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    Params(page): Params<Listeners>,
) -> Result<Json<ListenerPage>, ApiProblem> {
    let limit = limit(page.limit)? as usize;
    let start = match page.cursor.as_deref() {
        None | Some("") => 0,
        Some(cursor) => cursor
            .parse::<usize>()
            .map_err(|_| ApiProblem::bad("this cursor makes no sense", "take `next` of the page before"))?,
    };
    let all = state.listeners();
    let listeners: Vec<ListenerItem> = all.iter().skip(start).take(limit).map(ListenerItem::from).collect();
    let end = start.saturating_add(listeners.len());
    Ok(Json(ListenerPage { listeners, next: (end < all.len()).then(|| end.to_string()) }))
}
