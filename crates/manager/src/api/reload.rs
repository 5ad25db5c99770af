//! Asks the agent to read its configuration and rules again.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tw_model::link::Call;
use utoipa::ToSchema;

use super::problem::ApiProblem;
use super::server::Caller;
use crate::state::{NoAnswer, State, now_us};
use crate::store::Entry;

/// How long the agent may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// The agent's words.
    pub message: String,
}

/// Lets the agent read its configuration and rules again. What is in force stays so if they do not load.
#[utoipa::path(post, path = "/api/v1/reload", responses(
    (status = 200, body = Reloaded),
    (status = 422, body = ApiProblem, content_type = "application/problem+json",
        description = "They do not load; what was in force still is."),
    (status = 503, body = ApiProblem, content_type = "application/problem+json",
        description = "The agent is not connected."),
    (status = 504, body = ApiProblem, content_type = "application/problem+json",
        description = "The agent did not answer."),
))]
pub(super) async fn reload(
    Shared(state): Shared<Arc<State>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Reloaded>, ApiProblem> {
    let result = state.call(Call::Reload, PATIENCE).await;
    let said = match &result {
        Ok(Ok(message)) => json!({"result": "reloaded", "message": message}),
        Ok(Err(reason)) => json!({"result": "refused", "message": reason}),
        Err(NoAnswer::Away) => json!({"result": "not connected"}),
        Err(NoAnswer::Late) => json!({"result": "no answer"}),
    };
    write_down(&state, &caller, said).await;
    match result {
        Ok(Ok(message)) => {
            state.reloaded.notify_one();
            Ok(Json(Reloaded { message }))
        }
        Ok(Err(reason)) => {
            let problem = ApiProblem::new(StatusCode::UNPROCESSABLE_ENTITY, reason);
            Err(problem.with_remedy("mend it and reload again; what was in force still is"))
        }
        Err(NoAnswer::Away) => {
            let problem = ApiProblem::new(StatusCode::SERVICE_UNAVAILABLE, "the agent is not connected");
            Err(problem.with_remedy("`tidewatch status` says why").with_code("link-down"))
        }
        Err(NoAnswer::Late) => {
            let detail = format!("the agent did not answer within {} s", PATIENCE.as_secs());
            let problem = ApiProblem::new(StatusCode::GATEWAY_TIMEOUT, detail);
            Err(problem.with_remedy("it may still reload: `tidewatch status` shows the rules in force"))
        }
    }
}

/// What was done is written down. If the store is away, the log is where it can be read.
async fn write_down(state: &State, caller: &Caller, detail: serde_json::Value) {
    let target = state.lock().link.node.as_ref().map(|node| node.id.clone()).unwrap_or_default();
    let entry = Entry { actor: caller.to_string(), action: "reload".into(), target, detail };
    // Whole errors, of several lines, are the caller's and the audit's; the log has what became of it.
    let first = |key: &str| entry.detail[key].as_str().and_then(|text| text.lines().next()).unwrap_or_default();
    tracing::info!(actor = %entry.actor, result = first("result"), says = first("message"), "reload");
    let Some(store) = state.store() else {
        tracing::error!(actor = %entry.actor, "the store is not open: a reload is not in the audit");
        return;
    };
    // A store that is away is not waited for: the caller has an answer coming.
    let written = tokio::time::timeout(Duration::from_secs(3), store.audit(now_us(), &entry)).await;
    if !matches!(written, Ok(Ok(()))) {
        tracing::error!(actor = %entry.actor, "the store is away: a reload is not in the audit");
    }
}
