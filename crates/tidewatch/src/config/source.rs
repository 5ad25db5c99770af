//! Where the configuration comes from: a file, a folder of drop-ins, the environment and the command line.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Origin, code, line_column};

/// The file that is read if none is named.
pub const DEFAULT_FILE: &str = "/etc/tidewatch/tidewatch.yaml";
/// Name of the folder of drop-ins, beside the file.
pub const DROPINS: &str = "conf.d";
/// The variable that names the file.
pub const FILE_VARIABLE: &str = "TIDEWATCH_CONFIG";

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Most drop-ins that are read.
const MAX_DROPINS: usize = 256;

/// Where the configuration comes from. What comes later wins: defaults, file, drop-ins in the order of their names,
/// environment, command line.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file, if one is named: then it must exist. `None` for [`DEFAULT_FILE`], which may be missing.
    pub file: Option<PathBuf>,
    /// Folder of drop-ins (`*.yaml`, `*.yml`); may be missing.
    pub dropins: PathBuf,
    /// The environment; variables that do not begin with `TIDEWATCH_` are passed over.
    pub env: Vec<(OsString, OsString)>,
    /// What the command line says.
    pub overrides: Vec<Override>,
}

/// A value from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The option as typed, for messages, such as `--rules`.
    pub option: String,
    /// The key, such as `rules.files`.
    pub key: String,
    /// The value in YAML, as for environment variables.
    pub value: String,
}

impl Sources {
    /// The file that `--config` names, else the variable TIDEWATCH_CONFIG, else the default; the folder `conf.d`
    /// beside it; and the environment of this process.
    pub fn system(file: Option<PathBuf>) -> Self {
        let env: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        let named = env.iter().find(|(name, value)| name == FILE_VARIABLE && !value.is_empty());
        let file = file.or_else(|| named.map(|(_, value)| value.into()));
        let beside = file.as_deref().unwrap_or(Path::new(DEFAULT_FILE)).parent().unwrap_or(Path::new("/"));
        Self { dropins: beside.join(DROPINS), file, env, overrides: Vec::new() }
    }

    /// Adds a value from the command line; `value` is YAML, or for keys that take text, the text.
    pub fn set(&mut self, option: &str, key: &str, value: impl Into<String>) {
        self.overrides.push(Override { option: option.into(), key: key.into(), value: value.into() });
    }

    /// The folders that the configuration lies in: a file that is replaced is found there again.
    pub fn folders(&self) -> Vec<PathBuf> {
        let file = self.file.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
        vec![file.parent().unwrap_or(Path::new("/")).to_owned(), self.dropins.clone()]
    }
}

/// Reads a file of the configuration, and tells who else can change it.
///
/// # Errors
/// The diagnostic that says why it cannot be read.
pub fn read(path: &Path) -> Result<(String, Vec<Diagnostic>), Box<Diagnostic>> {
    let whole = || Origin::whole(path);
    let failed = |error: &std::io::Error| {
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => "create it, or name another file with --config".to_owned(),
            std::io::ErrorKind::PermissionDenied => "run as root, or as a member of the file's group".to_owned(),
            _ => "look at the file".to_owned(),
        };
        let message = format!("cannot read the file: {}", reason(error));
        Box::new(Diagnostic::error(code::READ, whole(), message).help(help))
    };
    // Opened without waiting, so that a pipe in its place cannot hold us up.
    let flags = rustix::fs::OFlags::NONBLOCK.bits() | rustix::fs::OFlags::NOCTTY.bits();
    let flags = i32::try_from(flags).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(|error| failed(&error))?;
    let metadata = file.metadata().map_err(|error| failed(&error))?;
    if !metadata.is_file() {
        let error = Diagnostic::error(code::READ, whole(), "is not a regular file").help("name a file");
        return Err(Box::new(error));
    }
    let large = || {
        let message = format!("is larger than {MAX_FILE} bytes");
        Box::new(Diagnostic::error(code::READ, whole(), message).help("is it a configuration? remove what is not"))
    };
    if metadata.len() > MAX_FILE {
        return Err(large());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(large());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
        let (line, column) = line_column(&valid, valid.len());
        let origin = Origin::File { path: path.to_owned(), line, column };
        let error = Diagnostic::error(code::READ, origin, "is not UTF-8 text from here on");
        Box::new(error.help("save the file as UTF-8"))
    })?;
    Ok((text, doubts_of_owner(path, &metadata)))
}

/// Who could change `path` besides its owner; that is how root is taken over.
fn doubts_of_owner(path: &Path, metadata: &std::fs::Metadata) -> Vec<Diagnostic> {
    let whole = || Origin::whole(path);
    let mut found = Vec::new();
    let mode = metadata.mode() & 0o7777;
    if mode & 0o022 != 0 {
        let message =
            format!("can be changed by others than its owner (mode {mode:04o}): whoever can may take over root");
        let help = format!("chmod go-w {}", path.display());
        found.push(Diagnostic::error(code::PERMISSIONS, whole(), message).help(help).warning());
    }
    let owner = metadata.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        let message = format!("belongs to the user {owner}, who can change it and may so take over root");
        let help = format!("chown root {}", path.display());
        found.push(Diagnostic::error(code::PERMISSIONS, whole(), message).help(help).warning());
    }
    found
}

/// A warning if everybody can read `path`, which holds a password.
pub fn doubt_of_readers(path: &Path) -> Option<Diagnostic> {
    let mode = std::fs::metadata(path).ok()?.mode() & 0o7777;
    let origin = Origin::whole(path);
    (mode & 0o004 != 0).then(|| {
        let message = format!("holds a password and can be read by everybody (mode {mode:04o})");
        Diagnostic::error(code::PERMISSIONS, origin, message)
            .key("store.url")
            .help(format!("chmod o-r {}", path.display()))
            .warning()
    })
}

/// The drop-ins of a folder in the order of their names; none if the folder is missing. With what is doubtful about
/// the folder.
///
/// # Errors
/// The diagnostic that says why the folder cannot be read.
pub fn dropins(folder: &Path) -> Result<(Vec<PathBuf>, Vec<Diagnostic>), Box<Diagnostic>> {
    let whole = || Origin::whole(folder);
    let failed = |error: std::io::Error| {
        let message = format!("cannot read the folder: {}", reason(&error));
        let error = Diagnostic::error(code::READ, whole(), message);
        Box::new(error.help("run as root, or as a member of the folder's group"))
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        Err(error) => return Err(failed(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
            files.push(path);
        }
        if files.len() > MAX_DROPINS {
            let message = format!("has more than {MAX_DROPINS} files");
            let error = Diagnostic::error(code::READ, whole(), message).help("put several into one");
            return Err(Box::new(error));
        }
    }
    files.sort();
    let doubts = match std::fs::metadata(folder) {
        Ok(metadata) if !files.is_empty() => doubts_of_owner(folder, &metadata),
        _ => Vec::new(),
    };
    Ok((files, doubts))
}

/// The system's reason without its number.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}
