//! Sockets that listen, as the agent sees them now: nothing of it is stored.

use std::net::IpAddr;
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

/// What sockets are ordered by, and known again by.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a> {
    container: &'a str,
    port: u16,
    protocol: &'a str,
    address: IpAddr,
    pid: u32,
    since_ns: u64,
}

impl<'a> Place<'a> {
    fn of(listener: &'a Listener) -> Self {
        let Listener { container, protocol, address, port, pid, since_ns, process: _ } = listener;
        Self { container, port: *port, protocol, address: *address, pid: *pid, since_ns: *since_ns }
    }

    fn cursor(&self) -> String {
        let Self { container, port, protocol, address, pid, since_ns } = self;
        format!("{port}_{protocol}_{address}_{pid}_{since_ns}_{container}")
    }

    /// None if it is no cursor.
    fn parse(cursor: &'a str) -> Option<Self> {
        let mut parts = cursor.splitn(6, '_');
        Some(Self {
            port: parts.next()?.parse().ok()?,
            protocol: parts.next()?,
            address: parts.next()?.parse().ok()?,
            pid: parts.next()?.parse().ok()?,
            since_ns: parts.next()?.parse().ok()?,
            container: parts.next()?,
        })
    }
}

/// Puts sockets into the order in which they are shown, so that a page can go on from the last one of the page before,
/// whatever came or went meanwhile.
pub(crate) fn in_order(listeners: &mut Vec<Listener>) {
    listeners.sort_by(|a, b| Place::of(a).cmp(&Place::of(b)));
    listeners.dedup_by(|a, b| Place::of(a) == Place::of(b));
}

/// A page of sockets that listen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListenerPage {
    /// The sockets: those of the host first, then by container, and by port. What looks the same is there once.
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
    let all = state.listeners();
    let rest = match page.cursor.as_deref() {
        None | Some("") => 0,
        Some(cursor) => {
            let wrong = || ApiProblem::bad("this cursor makes no sense", "take `next` of the page before");
            let last = Place::parse(cursor).ok_or_else(wrong)?;
            all.partition_point(|listener| Place::of(listener) <= last)
        }
    };
    let mut rest = all.iter().skip(rest);
    let page: Vec<&Listener> = rest.by_ref().take(limit).collect();
    let next = page.last().filter(|_| rest.next().is_some()).map(|last| Place::of(last).cursor());
    Ok(Json(ListenerPage { listeners: page.into_iter().map(ListenerItem::from).collect(), next }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_says_where_the_next_page_begins_whatever_the_container_is_called() {
        let mut all = Vec::new();
        for (container, address) in [("b_1", "::1"), ("", "0.0.0.0"), ("b_1", "::ffff:1.2.3.4"), ("a", "0.0.0.0")] {
            for port in [443, 80, 80] {
                all.push(Listener {
                    container: container.into(),
                    protocol: "tcp".into(),
                    address: address.parse().unwrap(),
                    port,
                    process: "server".into(),
                    pid: 7,
                    since_ns: u64::MAX,
                });
            }
        }
        in_order(&mut all);
        let shown: Vec<(&str, u16)> = all.iter().map(|one| (one.container.as_str(), one.port)).collect();
        let wanted = [("", 80), ("", 443), ("a", 80), ("a", 443), ("b_1", 80), ("b_1", 80), ("b_1", 443), ("b_1", 443)];
        assert_eq!(shown, wanted);
        for listener in &all {
            let place = Place::of(listener);
            assert_eq!(Place::parse(&place.cursor()).as_ref(), Some(&place));
        }
        for text in ["x", "2", "80_tcp", "80_tcp_x_1_1_", "80_tcp_::1_-1_1_", "70000_tcp_::1_1_1_"] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }
}
