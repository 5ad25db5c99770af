//! Arguments of `record`.

use std::path::PathBuf;

use clap::Args;

use super::{SetArgs, parse_when};

/// Arguments of `record`.
#[derive(Clone, Debug, Args)]
pub struct RecordArgs {
    /// The file to write. It must not be there yet.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace the file if it is there.
    #[arg(long)]
    pub force: bool,
    /// Only of the container of this name, or whose id begins so. It need not run yet.
    #[arg(long, value_name = "NAME_OR_ID")]
    pub container: Option<String>,
    /// Stop after this many seconds.
    #[arg(long, value_name = "SECONDS", conflicts_with = "from_recorder")]
    pub duration: Option<u64>,
    /// Stop before the file is larger than this, such as 64M or 2G.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_size: Option<u64>,
    /// Compress the file with gzip, as `sysdig -z` does; every reader unpacks it by itself.
    #[arg(long, conflicts_with = "packets")]
    pub compress: bool,
    /// Leave out our own records, which only `tidewatch replay` reads: half the size, but a replay may then find
    /// less than was found live.
    #[arg(long, conflicts_with = "packets")]
    pub plain: bool,
    /// Take what the flight recorder kept, or segments (*.twrec) and folders of them that are named here, instead of
    /// what happens now.
    #[arg(long, value_name = "FILE_OR_DIR", num_args = 0.., conflicts_with = "packets")]
    pub from_recorder: Option<Vec<PathBuf>>,
    /// With --from-recorder: nothing that happened before, a time or how long ago (15m, 2h, 7d).
    #[arg(long, value_name = "WHEN", value_parser = parse_when, requires = "from_recorder")]
    pub since: Option<String>,
    /// With --from-recorder: nothing that happened after.
    #[arg(long, value_name = "WHEN", value_parser = parse_when, requires = "from_recorder")]
    pub until: Option<String>,
    /// Record the packets of the container's network instead, as pcapng for Wireshark and tcpdump.
    #[arg(long, requires = "container")]
    pub packets: bool,
    /// Keep this many bytes of each packet.
    #[arg(long, value_name = "BYTES", requires = "packets", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(64..=262_144))]
    pub snaplen: u32,
    /// Say at the end, as JSON on standard output, how it went.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub set: SetArgs,
}

/// Smallest file that is worth its name: a list of processes fits in.
const LEAST: u64 = 1 << 20;

/// A size in bytes, with a unit of 1,024 or none.
fn parse_size(text: &str) -> Result<u64, String> {
    let wanted = || "a size is wanted, such as 64M or 2G".to_owned();
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..).map(str::to_ascii_lowercase).as_deref() {
        Some("") => 0,
        Some("k" | "kb" | "kib") => 10,
        Some("m" | "mb" | "mib") => 20,
        Some("g" | "gb" | "gib") => 30,
        _ => return Err(wanted()),
    };
    let number: u64 = digits.parse().map_err(|_| wanted())?;
    let size = number.checked_mul(1 << shift).ok_or_else(wanted)?;
    if size < LEAST { Err("must be at least 1M".into()) } else { Ok(size) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, size) in [("64M", 64 << 20), ("2G", 2 << 30), ("2048k", 2 << 20), ("1048576", 1 << 20)] {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for text in ["", "M", "-1M", "1.5G", "99999999999G", "64X"] {
            assert!(parse_size(text).unwrap_err().contains("64M"), "{text}");
        }
        assert!(parse_size("10k").unwrap_err().contains("at least"));
    }
}
