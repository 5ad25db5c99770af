//! Health and metrics: what orchestrators and Prometheus ask.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use crate::metrics;
use crate::state::State;

/// Whether the manager answers: always `ok`.
#[utoipa::path(get, path = "/healthz", responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the service does its work: the store takes findings, and the agent is connected.
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, body = String, content_type = "text/plain", description = "Ready."),
    (status = 503, body = String, content_type = "text/plain", description = "Not ready; a line for each reason."),
))]
pub(super) async fn readyz(Shared(state): Shared<Arc<State>>) -> Response {
    let mut reasons = Vec::new();
    {
        let inner = state.lock();
        match (&inner.fault, &inner.store) {
            (Some(fault), _) => reasons.push(format!("{}: {fault}", fault.code())),
            (None, None) => reasons.push("store-unavailable: the store is not open yet".into()),
            (None, Some(_)) => {}
        }
        if !inner.link.up {
            reasons.push(format!("link-down: {}", inner.link.reason));
        }
    }
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n", reasons.join("\n"))).into_response()
}

/// Metrics in the OpenMetrics text format. See docs/metrics.md.
#[utoipa::path(get, path = "/metrics", responses(
    (status = 200, body = String, content_type = "application/openmetrics-text"),
))]
pub(super) async fn metrics(Shared(state): Shared<Arc<State>>) -> Response {
    let text = metrics::exposition(&state);
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}
