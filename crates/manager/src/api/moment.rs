//! Times as people write them: a moment, or how long ago. One reading for requests and for the command line.

use jiff::{SignedDuration, Timestamp};

/// Why a text is no time, and what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither a time nor how long ago: {}", Self::REMEDY)]
pub struct NoMoment;

impl NoMoment {
    /// What to write instead.
    pub const REMEDY: &str = "give a time such as 2026-01-31T12:00:00Z, or how long ago, such as 15m, 1h30m or 7d";
}

/// Reads a time: RFC 3339, or how long before `now`, in whole numbers of `s`, `m`, `h`, `d` (24 hours) and `w`. What
/// is further away than a calendar reaches is the earliest time that there is.
///
/// # Errors
/// If it is neither.
pub fn moment(text: &str, now: Timestamp) -> Result<Timestamp, NoMoment> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago = SignedDuration::from_secs(seconds(text).ok_or(NoMoment)?);
    Ok(now.checked_sub(ago).unwrap_or(Timestamp::MIN))
}

/// Seconds of one or more numbers, each with its unit.
fn seconds(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut sum = 0_i64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u32 = rest.get(..digits)?.parse().ok()?;
        let unit = match rest.as_bytes().get(digits)? {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        sum = sum.checked_add(i64::from(number) * unit)?;
        rest = rest.get(digits + 1..)?;
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_spans_are_read_and_nonsense_is_told() {
        let now: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        let read = |text: &str| moment(text, now).map(|time| time.to_string());
        for (text, time) in [
            ("15m", "2026-11-24T07:45:00Z"),
            ("1h30m", "2026-11-24T06:30:00Z"),
            ("7d", "2026-11-17T08:00:00Z"),
            ("2w", "2026-11-10T08:00:00Z"),
            ("0s", "2026-11-24T08:00:00Z"),
            ("2026-01-01T00:00:00.5+01:00", "2025-12-31T23:00:00.5Z"),
        ] {
            assert_eq!(read(text).unwrap(), time, "{text}");
        }
        assert_eq!(moment("4294967295w", now), Ok(Timestamp::MIN));
        for nonsense in ["", "m", "-1h", "1", "1h30", "1é", "é", "99999999999d", "yesterday", "1.5h", "2026-01-01"] {
            assert_eq!(moment(nonsense, now), Err(NoMoment), "{nonsense}");
        }
    }
}
