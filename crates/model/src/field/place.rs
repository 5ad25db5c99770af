//! Fields that say how far the path that a caller wrote is from where the kernel came out, and where that is on the host.

use bumpalo::collections::Vec as BumpVec;

use super::{Arg, fd};
use crate::container::Container;
use crate::event::Event;
use crate::raw::attr;
use crate::value::Value;

/// Whether the object of a call lies elsewhere than its path says: null where no object tells, or no path was given.
pub(super) fn differs<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let body = event.raw.file()?;
    let (path, raw) = (event.raw.text(body.path), event.raw.text(body.raw));
    if path.is_empty() || raw.is_empty() {
        return None;
    }
    Some(Value::Bool(!leads_to(raw, path)))
}

/// Whether `raw`, freed of `.`, `..` and doubled slashes, is `path`, or, if it is relative, the end of it.
fn leads_to(raw: &[u8], path: &[u8]) -> bool {
    // From the end, so that `..` takes away what stands before it.
    let mut path = path.rsplit(|byte| *byte == b'/').filter(|part| !part.is_empty());
    let mut up = 0_usize;
    for part in raw.rsplit(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => up += 1,
            _ if up > 0 => up -= 1,
            part => {
                if path.next() != Some(part) {
                    return false;
                }
            }
        }
    }
    // What a relative path begins with is the directory that it is relative to; above the root is the root.
    !raw.starts_with(b"/") || path.next().is_none()
}

/// The object's path, from the host's root directory.
pub(super) fn host_path<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let body = event.raw.file()?;
    let path = match event.raw.text(body.path) {
        b"" => fd::file_path(event, body),
        path => path,
    };
    if !path.starts_with(b"/") {
        return None;
    }
    let root = event.raw.text(body.root);
    let (outer, inner) = match event.container {
        None => (root, path),
        Some(container) => outside(event, container, root, path)?,
    };
    if outer.is_empty() {
        return Some(Value::Text(inner));
    }
    let mut text = BumpVec::with_capacity_in(outer.len() + inner.len(), event.scratch);
    text.extend_from_slice(outer.strip_suffix(b"/").unwrap_or(outer));
    if inner != b"/" {
        text.extend_from_slice(inner);
    }
    Some(Value::Text(text.into_bump_slice()))
}

/// Where the host has what lies at `path` below `root` in the container: the source of the mount that it lies in and the
/// rest of the path, or the container's own root directory.
fn outside<'e>(
    event: &Event<'e>,
    container: &'e Container,
    root: &'e [u8],
    path: &'e [u8],
) -> Option<(&'e [u8], &'e [u8])> {
    let path = if root.is_empty() {
        path
    } else {
        let mut whole = BumpVec::with_capacity_in(root.len() + path.len(), event.scratch);
        whole.extend_from_slice(root);
        whole.extend_from_slice(path);
        whole.into_bump_slice()
    };
    let below = |mount: &crate::container::Mount| {
        let rest = path.strip_prefix(mount.dest.trim_end_matches('/').as_bytes())?;
        (rest.is_empty() || rest.starts_with(b"/")).then_some((mount.dest.len(), rest))
    };
    let nearest = container
        .mounts
        .iter()
        .filter(|mount| mount.source.starts_with('/'))
        .filter_map(|mount| below(mount).map(|(depth, rest)| (depth, mount, rest)))
        .max_by_key(|(depth, ..)| *depth);
    if let Some((_, mount, rest)) = nearest {
        return Some((mount.source.as_bytes(), if rest.is_empty() { b"/" } else { rest }));
    }
    // What the runtime mounts by itself (proc, dev, sys) has no place on the host.
    let own = [&b"/proc"[..], b"/sys", b"/dev"]
        .iter()
        .any(|top| path.strip_prefix(*top).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")));
    (!own && !container.rootfs.is_empty()).then_some((container.rootfs.as_bytes(), path))
}

pub(super) fn is_deleted<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let body = event.raw.file()?;
    (!event.raw.text(body.path).is_empty()).then_some(Value::Bool(body.attrs & attr::DELETED != 0))
}

#[cfg(test)]
mod tests {
    use super::leads_to;

    #[test]
    fn a_path_leads_where_its_text_says_or_not() {
        for (raw, path) in [
            ("/etc/passwd", "/etc/passwd"),
            ("/etc//./passwd", "/etc/passwd"),
            ("/etc/x/../passwd", "/etc/passwd"),
            ("/../../etc/passwd", "/etc/passwd"),
            ("passwd", "/etc/passwd"),
            ("./a/b", "/x/y/a/b"),
            ("../a/b", "/x/a/b"),
            ("a/../../b", "/x/b"),
            ("..", "/x"),
            (".", "/x/y"),
            ("/", "/"),
            ("/..", "/"),
        ] {
            assert!(leads_to(raw.as_bytes(), path.as_bytes()), "{raw} {path}");
        }
        for (raw, path) in [
            ("/tmp/link", "/etc/shadow"),
            ("link", "/etc/shadow"),
            ("/bin/sh", "/usr/bin/sh"),
            ("/etc", "/"),
            ("etc/passwd", "/passwd"),
            ("/proc/self/fd/3", "/etc/shadow"),
            ("/etc/passwd", "/host/etc/passwd"),
        ] {
            assert!(!leads_to(raw.as_bytes(), path.as_bytes()), "{raw} {path}");
        }
    }
}
