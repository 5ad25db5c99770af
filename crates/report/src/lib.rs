//! Outward from the agent: findings as JSON lines in Falco's format, and as blocks for people at a terminal; the spool in
//! which they wait on disk for the manager, and the uplink to it.
//!
//! Everything that a container can shape passes [`escape`] or JSON's own escaping: no control character of a process's
//! arguments or of a file's name reaches a terminal or breaks a line.
//!
//! Secrets are taken out by [`redact`] before anything is shown or kept.
//!
//! **Never:** a decision whether something is worth reporting.
#![forbid(unsafe_code)]

pub mod escape;
pub mod json;
pub mod redact;
pub mod spool;
pub mod terminal;
pub mod uplink;

/// Wall-clock time in ISO 8601, UTC, with nanoseconds, as Falco prints it.
pub fn iso_time(time_ns: u64) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(time_ns)) {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string(),
        Err(_) => format!("{time_ns}ns"),
    }
}

/// Local time of day, with the given number of digits behind the second (at most 9).
pub fn clock_time(time_ns: u64, digits: usize) -> String {
    let Ok(time) = jiff::Timestamp::from_nanosecond(i128::from(time_ns)) else { return format!("{time_ns}ns") };
    let local = time.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%H:%M:%S.%9f").to_string();
    let keep = if digits == 0 { 8 } else { 9 + digits.min(9) };
    local.get(..keep).unwrap_or(&local).to_owned()
}
