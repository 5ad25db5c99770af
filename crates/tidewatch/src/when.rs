//! Times on the command line: a moment, or how long ago.

use anyhow::Context as _;
use jiff::{Span, Timestamp};

/// Nanoseconds since the epoch of what was written: RFC 3339 (`2026-11-24T08:00:00Z`), or a span before `now`
/// (`15m`, `2h`, `7d`; a day has 24 hours).
///
/// # Errors
/// If it is neither.
pub fn parse(text: &str, now: Timestamp) -> anyhow::Result<u64> {
    let wanted = || format!("{text:?} is no time: write 15m, 2h or 7d for how long ago, or 2026-11-24T08:00:00Z");
    let moment = match text.parse::<Timestamp>() {
        Ok(moment) => moment,
        Err(_) => {
            let span: Span = text.trim_start_matches('-').parse().ok().with_context(wanted)?;
            let hours =
                span.total((jiff::Unit::Second, jiff::SpanRelativeTo::days_are_24_hours())).with_context(wanted)?;
            now.checked_sub(jiff::SignedDuration::from_secs_f64(hours.abs())).with_context(wanted)?
        }
    };
    u64::try_from(moment.as_nanosecond()).with_context(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_spans_are_read_and_the_rest_is_told() {
        let now: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        let shown = |text: &str| {
            parse(text, now)
                .map(|ns| Timestamp::from_nanosecond(ns.into()).unwrap().to_string())
                .map_err(|e| e.to_string())
        };
        assert_eq!(shown("15m").unwrap(), "2026-11-24T07:45:00Z");
        assert_eq!(shown("7d").unwrap(), "2026-11-17T08:00:00Z");
        assert_eq!(shown("1h30m").unwrap(), "2026-11-24T06:30:00Z");
        assert_eq!(shown("2026-11-24T07:59:59.5Z").unwrap(), "2026-11-24T07:59:59.5Z");
        for bad in ["", "yesterday", "15", "1900-01-01T00:00:00Z"] {
            assert!(shown(bad).unwrap_err().contains("is no time"), "{bad}");
        }
    }
}
