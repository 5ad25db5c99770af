//! The salt of the digests: one per agent, made once, readable by nobody else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{CWD, OFlags, RenameFlags};

/// Bytes of a salt.
const LEN: usize = 32;

/// Reads the salt at `path`; makes one, mode 0600, if there is none. Of several that make it at once, one wins and all
/// return its salt.
///
/// # Errors
/// If the file cannot be read or made, others may read it, it belongs to another user, or it has not 32 bytes.
pub fn load_or_make_salt(path: &Path) -> io::Result<[u8; LEN]> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("redaction salt {}: {error}", path.display()));
    match load(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path).and_then(|()| load(path)).map_err(named),
        other => other.map_err(named),
    }
}

fn load(path: &Path) -> io::Result<[u8; LEN]> {
    // Not blocked by a pipe, not led elsewhere by a link.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    if about.mode() & 0o077 != 0 {
        let message =
            format!("others may read it (mode {:04o}): chmod 0600, or remove it for a new one", about.mode() & 0o7777);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    let user = rustix::process::geteuid().as_raw();
    if about.uid() != user {
        let message = format!("belongs to user {}, not to {user}: remove it for a new one", about.uid());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    let mut bytes = Vec::with_capacity(LEN + 1);
    file.take(LEN as u64 + 1).read_to_end(&mut bytes)?;
    bytes.try_into().map_err(|_| {
        let message = format!("has {} bytes instead of {LEN}: remove it for a new one", about.len());
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

/// Makes a salt in a file beside, then gives it its name, unless another was faster.
fn make(path: &Path) -> io::Result<()> {
    let mut salt = [0; LEN];
    random(&mut salt)?;
    let mut tag = [0; 8];
    random(&mut tag)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{:016x}", u64::from_ne_bytes(tag)));
    let beside = Path::new(&beside);
    let made = write(beside, &salt).and_then(|()| {
        match rustix::fs::renameat_with(CWD, beside, CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::EXIST) => fs::remove_file(beside),
            // Some file systems cannot rename so; a link to a name that exists fails as well.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                match fs::hard_link(beside, path) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                    _ => {}
                }
                fs::remove_file(beside)
            }
            Err(error) => Err(error.into()),
        }
    });
    if made.is_err() {
        let _ = fs::remove_file(beside);
        return made;
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn write(path: &Path, salt: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(salt)?;
    file.sync_all()
}

fn random(bytes: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[done..], rustix::rand::GetRandomFlags::empty()) {
            Ok(len) => done += len,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("tidewatch-salt-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_salt_is_made_once_for_its_owner_alone() {
        let folder = Folder::new("once");
        let path = folder.0.join("redaction-salt");
        let salts: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| load_or_make_salt(&path).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(salts.iter().all(|salt| *salt == salts[0]) && salts[0] != [0; LEN]);
        assert_eq!(load_or_make_salt(&path).unwrap(), salts[0]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_bad_salt_is_refused_with_the_reason() {
        let folder = Folder::new("bad");
        let path = folder.0.join("redaction-salt");
        write(&path, &[7; 31]).unwrap();
        let message = load_or_make_salt(&path).unwrap_err().to_string();
        assert!(message.contains("redaction-salt: has 31 bytes instead of 32"), "{message}");
        fs::remove_file(&path).unwrap();
        load_or_make_salt(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = load_or_make_salt(&path).unwrap_err();
        assert!(error.kind() == io::ErrorKind::PermissionDenied && error.to_string().contains("mode 0640"), "{error}");
        let link = folder.0.join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(load_or_make_salt(&link).is_err());
        assert_eq!(load_or_make_salt(&folder.0.join("none/salt")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
