//! Who starts a container: the command line of `runc` or `crun` says its id and its bundle, before any process of it runs.
//! It is all that is left of a container that is gone before anybody can look.
//!
//! And who enters one: `runc exec` has the id that the engine gave the exec.
//!
//! Of a start, only root is believed: whoever else could make the host's own processes pass for those of a container. Of an
//! exec, whoever brought a process into the container's cgroup.

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

/// Options of `exec` that have a value behind them (`runc exec --help`, `crun exec --help`), besides those.
const OF_EXEC: [&str; 15] = [
    "--process",
    "-p",
    "--cwd",
    "--env",
    "-e",
    "--user",
    "-u",
    "--additional-gids",
    "-g",
    "--process-label",
    "--apparmor",
    "--cap",
    "-c",
    "--cgroup",
    "--console-socket",
];

/// What this command line starts, if it starts a container. `argv` is separated by NUL; `cwd` is the caller's folder.
pub fn launched(exe: &[u8], argv: &[u8], cwd: &[u8]) -> Option<Announced> {
    let (runtime, usual_root) = match exe.rsplit(|byte| *byte == b'/').next()? {
        b"runc" => ("runc", "/run/runc"),
        b"crun" => ("crun", "/run/crun"),
        _ => return None,
    };
    let cwd = Path::new(std::str::from_utf8(cwd).ok()?);
    let line = Line::read(argv);
    let id = line.words.last().copied().filter(|id| is_id(id))?;
    let root = line.option("--root").map_or_else(|| PathBuf::from(usual_root), |path| cwd.join(path));
    let bundle = line.option("--bundle").or_else(|| line.option("-b"));
    let bundle = bundle.map_or_else(|| cwd.to_owned(), |path| cwd.join(path));
    matches!(line.command, Some("run" | "create")).then(|| Announced { id: id.to_owned(), runtime, bundle, root })
}

/// What a process of `runc` or `crun` is there for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// To start a container.
    Start,
    /// To start a program in a container that runs, with the engine's id of that, if it gave one.
    Exec {
        /// The id.
        id: String,
    },
}

/// What the process with this executable and these arguments is there for, if it is a runtime's.
pub fn errand(exe: &[u8], argv: &[u8]) -> Option<Errand> {
    if !matches!(exe.rsplit(|byte| *byte == b'/').next()?, b"runc" | b"crun") {
        return None;
    }
    let line = Line::read(argv);
    match line.command? {
        "run" | "create" | "start" | "restore" => Some(Errand::Start),
        "exec" => {
            // containerd names the file after the exec, conmon its folder.
            let file = Path::new(line.option("--pid-file").unwrap_or_default());
            let folder = || file.parent().and_then(Path::file_name);
            let name = if file.ends_with("exec_pid") { folder() } else { file.file_stem() };
            let id = name.and_then(|name| name.to_str()).filter(|id| is_id(id)).unwrap_or_default();
            Some(Errand::Exec { id: id.to_owned() })
        }
        _ => None,
    }
}

/// A command line of these programs, taken apart.
#[derive(Default)]
struct Line<'a> {
    command: Option<&'a str>,
    /// Words behind the command that belong to no option.
    words: Vec<&'a str>,
    options: Vec<(&'a str, &'a str)>,
}

impl<'a> Line<'a> {
    fn read(argv: &'a [u8]) -> Self {
        let mut words = argv.split(|byte| *byte == 0).skip(1).filter_map(|word| std::str::from_utf8(word).ok());
        let mut line = Self::default();
        while let Some(word) = words.next() {
            let has_value = WITH_VALUE.contains(&word) || line.command == Some("exec") && OF_EXEC.contains(&word);
            match word.split_once('=') {
                Some((option, value)) if word.starts_with('-') => line.options.push((option, value)),
                _ if has_value => line.options.extend(words.next().map(|value| (word, value))),
                _ if word.starts_with('-') || word.is_empty() => {}
                _ if line.command.is_none() => line.command = Some(word),
                _ => line.words.push(word),
            }
            // What follows is the program's own.
            if line.command == Some("exec") && !line.words.is_empty() {
                break;
            }
        }
        line
    }

    fn option(&self, name: &str) -> Option<&'a str> {
        self.options.iter().rfind(|(option, _)| *option == name).map(|(_, value)| *value)
    }
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
    fn an_exec_is_known_with_the_id_that_its_engine_gave() {
        let of = |line: &str| errand(b"/usr/sbin/runc", line.replace(' ', "\0").as_bytes());
        let exec = |id: &str| Some(Errand::Exec { id: id.into() });
        let containerd = "runc --root /run/docker/runtime-runc/moby --log /x/log.json --log-format json exec \
                          --process /tmp/runc-process1 --detach --pid-file /x/moby/3f2a/8c1d.pid 3f2a";
        assert_eq!(of(containerd), exec("8c1d"));
        let conmon = "runc exec --pid-file /c/userdata/77aa/exec_pid --process /c/userdata/77aa/exec-process -d 3f2a";
        assert_eq!(of(conmon), exec("77aa"));
        assert_eq!(of("runc exec -t --user 0 web sh --pid-file /x/no.pid"), exec(""));
        assert_eq!(of("runc exec --pid-file ../../.. web"), exec(""));
        assert_eq!(of("runc --root exec create web"), Some(Errand::Start));
        assert_eq!(of("runc init"), None);
        assert_eq!(errand(b"/bin/sh", b"runc\0exec\0web"), None);
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
