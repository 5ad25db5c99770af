//! Times on the command line as the stages count them.

use jiff::Timestamp;
use tw_manager::api::{NoMoment, moment};

/// Nanoseconds since the epoch of what was written, as [`moment`] reads it; 0 for what was before.
///
/// # Errors
/// If it is no time.
pub fn parse(text: &str, now: Timestamp) -> Result<u64, NoMoment> {
    Ok(u64::try_from(moment(text, now)?.as_nanosecond()).unwrap_or(0))
}

/// Looks whether a period has anything in it.
///
/// # Errors
/// If it ends before it begins.
pub fn in_order(since: Option<&str>, until: Option<&str>) -> anyhow::Result<()> {
    let now = Timestamp::now();
    if let (Some(since), Some(until)) = (since, until) {
        anyhow::ensure!(
            parse(since, now)? <= parse(until, now)?,
            "--until {until} is before --since {since}: nothing can be between; exchange them"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_that_ends_before_it_begins_is_told() {
        assert!(in_order(Some("1m"), Some("2m")).unwrap_err().to_string().contains("exchange them"));
        assert!(in_order(Some("2m"), Some("1m")).is_ok() && in_order(Some("1m"), None).is_ok());
    }

    #[test]
    fn nothing_was_before_the_epoch() {
        let now: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        assert_eq!(parse("15m", now), Ok(1_795_506_300_000_000_000));
        assert_eq!(parse("1900-01-01T00:00:00Z", now), Ok(0));
        assert_eq!(parse("4294967295w", now), Ok(0));
        assert_eq!(parse("yesterday", now), Err(NoMoment));
    }
}
