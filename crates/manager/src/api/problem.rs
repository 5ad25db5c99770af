//! Errors as problem+json (RFC 9457), and parameters whose errors are such.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::moment::{self, NoMoment};
use crate::store::StoreError;

/// Code of problems that only a program has that asks for what this version does not know.
pub const UNKNOWN_REQUEST: &str = "unknown-request";

/// Why a request failed, and what to do about it.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApiProblem {
    /// `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// What is wrong.
    pub detail: String,
    /// What to do about it; empty if there is nothing.
    pub remedy: String,
    /// Stable code of the problem, if it has one, such as `store-full`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
}

impl ApiProblem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".into(),
            title: status.canonical_reason().unwrap_or("Error").into(),
            status: status.as_u16(),
            detail: detail.into(),
            remedy: String::new(),
            code: String::new(),
        }
    }

    pub(super) fn bad(detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail).with_remedy(remedy)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(super) fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    pub(super) fn with_code(mut self, code: &str) -> Self {
        self.code = code.into();
        self
    }
}

impl From<StoreError> for ApiProblem {
    fn from(error: StoreError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            .with_remedy(error.remedy())
            .with_code(error.code())
    }
}

impl IntoResponse for ApiProblem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}

/// Parameters behind the `?`. Unknown ones are an error.
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiProblem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(error) => {
                let remedy = "see /api/v1/openapi.json for the parameters of this path";
                Err(ApiProblem::bad(error.body_text(), remedy).with_code(UNKNOWN_REQUEST))
            }
        }
    }
}

/// RFC 3339 of microseconds since the epoch; times out of its range are cut to it.
pub(super) fn rfc3339(us: i64) -> String {
    let bound = if us < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_microsecond(us).unwrap_or(bound).to_string()
}

/// Microseconds since the epoch of a time in a request.
pub(super) fn moment(name: &str, text: &str, now_us: i64) -> Result<i64, ApiProblem> {
    let now = Timestamp::from_microsecond(now_us).unwrap_or(Timestamp::MAX);
    moment::moment(text, now).map(Timestamp::as_microsecond).map_err(|NoMoment| {
        let detail = format!("`{name}` is neither a time nor how long ago: {}", shown(text));
        ApiProblem::bad(detail, NoMoment::REMEDY)
    })
}

/// A limit from 1 to 1000.
pub(super) fn limit(limit: Option<u32>) -> Result<u32, ApiProblem> {
    match limit.unwrap_or(100) {
        limit @ 1..=1000 => Ok(limit),
        other => Err(ApiProblem::bad(format!("`limit` is {other}"), "give a number from 1 to 1000, and use `cursor`")),
    }
}

/// Reads a place in a list that an earlier answer gave.
pub(super) fn place(cursor: &str) -> Result<(i64, String), ApiProblem> {
    let read = || {
        let (time, id) = cursor.split_once('.')?;
        (id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(())?;
        Some((time.parse().ok()?, id.to_owned()))
    };
    read().ok_or_else(|| ApiProblem::bad("`cursor` is not one of ours", "give `next` of the page before, as it is"))
}

/// A place in a list.
pub(super) fn cursor(time_us: i64, id: &str) -> String {
    format!("{time_us}.{id}")
}

/// Text of a request as it may be shown.
pub(super) fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_places_are_read_and_nonsense_is_told() {
        let now = 1_000_000_000_000_000;
        assert_eq!(moment("since", "15m", now).unwrap(), now - 900_000_000);
        assert_eq!(moment("since", "2026-01-01T00:00:00Z", now).unwrap(), 1_767_225_600_000_000);
        let problem = moment("since", "yesterday", now).unwrap_err();
        assert!(problem.status == 400 && problem.detail.contains("`since`") && problem.remedy.contains("15m"));
        assert_eq!(rfc3339(i64::MAX), Timestamp::MAX.to_string());
        assert_eq!(place(&cursor(-5, "AB")).unwrap(), (-5, "AB".into()));
        for nonsense in ["", ".", "1", "x.AB", "1.A'B", "1.é"] {
            assert!(place(nonsense).is_err() || nonsense == "1.", "{nonsense}");
        }
    }
}
