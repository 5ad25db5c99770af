//! The API: what the command line and the console ask, over the control socket; health and metrics over TCP too.
//!
//! Everything in a request is hostile: sizes, times and connections are bounded, and no text of it reaches a statement
//! other than as a value.
#![allow(clippy::result_large_err, reason = "one error a request is no cost, and the handlers read better")]

mod audit;
mod findings;
mod health;
mod inventory;
mod listeners;
mod moment;
mod overview;
mod problem;
mod reload;
mod server;
mod shape;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State as Shared};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::State;

pub use audit::{AuditLine, AuditPage};
pub use findings::{FindingItem, FindingPage};
pub use inventory::{
    ContainerItem, ContainerPage, ImageItem, ImagePage, RuleItem, RulePage, WorkloadItem, WorkloadPage,
};
pub(crate) use listeners::in_order;
pub use listeners::{ListenerItem, ListenerPage};
pub use moment::{NoMoment, moment};
pub use overview::{LinkOverview, ManagerOverview, Overview, ProblemPage, StoreOverview};
pub use problem::{ApiProblem, UNKNOWN_REQUEST};
pub use reload::Reloaded;
pub(crate) use server::{serve_tcp, serve_unix};

/// Longest body of a request.
const BODY: usize = 64 << 10;
/// Longest time for a response.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "Tidewatch",
    description = "What a node's manager knows. Served on the control socket; the paths without /api/ over TCP too. \
                   Times are RFC 3339 in fields named time, received, since …, and nanoseconds since the epoch in \
                   fields that end in _ns. Errors are problem+json (RFC 9457) with a remedy."
))]
struct Document;

fn documented() -> OpenApiRouter<Arc<State>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(overview::status))
        .routes(routes!(overview::problems))
        .routes(routes!(findings::list))
        .routes(routes!(findings::show))
        .routes(routes!(inventory::containers))
        .routes(routes!(inventory::images))
        .routes(routes!(listeners::list))
        .routes(routes!(inventory::workloads))
        .routes(routes!(inventory::rules))
        .routes(routes!(audit::list))
        .routes(routes!(reload::reload))
        .merge(public())
}

/// What strangers on this host may see.
fn public() -> OpenApiRouter<Arc<State>> {
    OpenApiRouter::new()
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
}

/// The description of the API, as JSON with a line break at its end.
pub fn openapi() -> String {
    let (_, mut document) = documented().split_for_parts();
    // Not the version of the program, which would change the document without need.
    document.info.version = "1".into();
    document.info.license = None;
    document.info.contact = None;
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// Everything: for the control socket.
pub(crate) fn control(state: Arc<State>) -> Router {
    let (router, _) = documented().split_for_parts();
    let document: Arc<str> = openapi().into();
    let router = router.route(
        "/api/v1/openapi.json",
        axum::routing::get(move || async move { ([(CONTENT_TYPE, "application/json")], document.to_string()) }),
    );
    guarded(router, state)
}

/// Health and metrics: for TCP.
pub(crate) fn outside(state: Arc<State>) -> Router {
    guarded(public().split_for_parts().0, state)
}

fn guarded(router: Router<Arc<State>>, state: Arc<State>) -> Router {
    router
        .fallback(async || {
            let problem = ApiProblem::not_found("there is no such path");
            problem.with_remedy("see /api/v1/openapi.json").with_code(UNKNOWN_REQUEST)
        })
        .method_not_allowed_fallback(async || {
            ApiProblem::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take that method")
                .with_remedy("see /api/v1/openapi.json")
                .with_code(UNKNOWN_REQUEST)
        })
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            tracing::error!("a request made the API panic: this is a defect");
            ApiProblem::new(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be handled")
                .with_remedy("this is a defect of tidewatch: please report it with the request")
                .into_response()
        }))
        .layer(RequestBodyLimitLayer::new(BODY))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, PATIENCE))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&state), count))
        .with_state(state)
}

/// Counts requests by the path's pattern, so that nobody can make up new series.
async fn count(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    // What the layers below answer has no remedy yet.
    let told = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/problem+json");
    let response = match response.status() {
        status @ StatusCode::GATEWAY_TIMEOUT if !told => ApiProblem::new(status, "no answer in time")
            .with_remedy("try again; `tidewatch status` says how the service is")
            .into_response(),
        status @ StatusCode::PAYLOAD_TOO_LARGE if !told => {
            let problem = ApiProblem::new(status, format!("the body is longer than {BODY} bytes"));
            problem.with_remedy("no path takes a body that long").into_response()
        }
        _ => response,
    };
    *state.lock().counters.requests.entry((path, response.status().as_u16())).or_insert(0) += 1;
    response
}
