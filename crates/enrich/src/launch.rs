//! Who starts a container: the command line of `runc` or `crun` says its id and its bundle, before any process of it runs.
//! It is all that is left of a container that is gone before anybody can look.
//!
//! Only root is believed: whoever else could make the host's own processes pass for those of a container.

use std::path::{Path, PathBuf};

use crate::bundle::Announced;
use crate::runtime::is_id;

/// Options of these programs that have a value behind them, before and behind the command (`runc --help`, `crun --help`).
const WITH_VALUE: [&str; 13] = [
    "--root",
    "--log",
    "--log-format",
    "--log-level",
    "--criu",
    "--rootless",
    "--cgroup-manager",
    "--bundle",
    "-b",
    "--console-socket",
    "--pid-file",
    "--preserve-fds",
    "--config",
];

/// What this command line starts, if it starts a container. `argv` is separated by NUL; `cwd` is the caller's folder.
pub fn launched(exe: &[u8], argv: &[u8], cwd: &[u8]) -> Option<Announced> {
    let name = exe.rsplit(|byte| *byte == b'/').next()?;
    let (runtime, usual_root) = match name {
        b"runc" => ("runc", "/run/runc"),
        b"crun" => ("crun", "/run/crun"),
        _ => return None,
    };
    let cwd = Path::new(std::str::from_utf8(cwd).ok()?);
    let mut words = argv.split(|byte| *byte == 0).skip(1).filter_map(|word| std::str::from_utf8(word).ok());
    let (mut root, mut bundle, mut command, mut id) = (PathBuf::from(usual_root), cwd.to_owned(), None, None);
    while let Some(word) = words.next() {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) if word.starts_with('-') => (option, Some(value)),
            _ if WITH_VALUE.contains(&word) => (word, words.next()),
            _ => (word, None),
        };
        match (option, value) {
            ("--root", Some(path)) => root = cwd.join(path),
            ("--bundle" | "-b", Some(path)) => bundle = cwd.join(path),
            _ if option.starts_with('-') || option.is_empty() => {}
            _ if command.is_none() => command = Some(option),
            _ => id = Some(option),
        }
    }
    let id = id.filter(|id| is_id(id))?;
    matches!(command, Some("run" | "create")).then(|| Announced { id: id.to_owned(), runtime, bundle, root })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Option<(String, String, String)> {
        let found = launched(b"/usr/sbin/runc", line.replace(' ', "\0").as_bytes(), b"/srv/app")?;
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        Some((found.id, path(found.bundle), path(found.root)))
    }

    #[test]
    fn ids_and_bundles_are_found_as_people_and_engines_write_them() {
        let is = |id: &str, bundle: &str, root: &str| Some((id.to_owned(), bundle.to_owned(), root.to_owned()));
        assert_eq!(of("runc run web "), is("web", "/srv/app", "/run/runc"));
        assert_eq!(of("runc --root /r --log=/l run -d -b /b --pid-file /p web"), is("web", "/b", "/r"));
        let engine = "runc --root /run/containerd/runc/default --log /x/log.json --log-format json create \
                      --bundle /x/default/web --pid-file /x/init.pid web";
        assert_eq!(of(engine), is("web", "/x/default/web", "/run/containerd/runc/default"));
        assert_eq!(of("runc run --bundle=other web"), is("web", "/srv/app/other", "/run/runc"));
        for other in
            ["runc", "runc init", "runc delete -f web", "runc run", "runc run ../x", "runc list run web", "runc --root"]
        {
            assert_eq!(of(other), None, "{other}");
        }
        assert!(launched(b"/bin/sh", b"runc\0run\0web", b"/").is_none());
        assert!(launched(b"", b"", b"\xff").is_none());
    }
}
