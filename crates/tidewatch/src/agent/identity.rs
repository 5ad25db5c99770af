//! Who this agent is: an installation, a boot, a start.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use tw_model::finding::fnv1a;
use tw_model::status::Node;
use tw_sensor::clock;

/// Finds out who this is; makes the installation's id if there is none yet.
///
/// # Errors
/// If the id can neither be read nor written.
pub fn of_this_agent(folder: &Path) -> anyhow::Result<Node> {
    let id = installation(&folder.join("node-id"))?;
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
    let session = fnv1a(&[id.as_bytes(), boot_id.as_bytes(), &clock::boot_ns().to_le_bytes()]);
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(Node { id, hostname, boot_id, session })
}

fn installation(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    match fs::read_to_string(path) {
        Ok(text) if is_id(text.trim()) => return Ok(text.trim().to_owned()),
        Ok(_) => anyhow::bail!("{shown} does not hold 32 hexadecimal digits: remove it to become a new node"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
    }
    let mut bytes = [0_u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).context("no random numbers")?;
    let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let fresh = path.with_extension("new");
    let mut file = fs::File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&fresh)
        .with_context(|| format!("cannot write {}", fresh.display()))?;
    file.write_all(format!("{id}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path).with_context(|| format!("cannot write {shown}"))?;
    Ok(id)
}

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_keeps_its_id_and_each_start_is_a_session() {
        let folder = std::env::temp_dir().join(format!("tidewatch-identity-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let first = of_this_agent(&folder).unwrap();
        let second = of_this_agent(&folder).unwrap();
        assert!(is_id(&first.id));
        assert_eq!(first.id, second.id);
        assert_ne!(first.session, second.session);
        fs::write(folder.join("node-id"), "nonsense").unwrap();
        assert!(of_this_agent(&folder).unwrap_err().to_string().contains("remove it"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
