//! Paths: made absolute without looking at a file system, as nobody can any more.

/// Puts `raw`, relative to `base`, in `out`: absolute, without `.`, `..` and doubled slashes. Without a base a relative
/// path stays as it is.
pub(super) fn absolute(base: &[u8], raw: &[u8], out: &mut Vec<u8>) {
    out.clear();
    if raw.is_empty() {
        return;
    }
    if !raw.starts_with(b"/") && !base.starts_with(b"/") {
        out.extend_from_slice(raw);
        return;
    }
    let base = if raw.starts_with(b"/") { b"".as_slice() } else { base };
    for component in base.split(|byte| *byte == b'/').chain(raw.split(|byte| *byte == b'/')) {
        match component {
            b"" | b"." => {}
            b".." => out.truncate(out.iter().rposition(|byte| *byte == b'/').unwrap_or(0)),
            name => {
                out.push(b'/');
                out.extend_from_slice(name);
            }
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_absolute() {
        let mut out = Vec::new();
        for (base, raw, expected) in [
            ("/a/b", "../c", "/a/c"),
            ("/a", "/x//y/./z", "/x/y/z"),
            ("/a", "../../..", "/"),
            ("", "x/y", "x/y"),
            ("/", "etc", "/etc"),
            ("/a", "", ""),
        ] {
            absolute(base.as_bytes(), raw.as_bytes(), &mut out);
            assert_eq!(out, expected.as_bytes(), "{base} {raw}");
        }
    }
}
