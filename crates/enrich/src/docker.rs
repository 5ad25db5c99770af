//! Docker Engine, through its API: see [`crate::watcher`].

mod answer;
mod session;

pub(crate) use answer::{nanoseconds, set_image_name};
pub(crate) use session::Session;

/// Where Docker listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Whether Docker may be asked for this id: 12 to 64 hexadecimal digits.
pub(crate) fn is_docker_id(id: &str) -> bool {
    (12..=64).contains(&id.len()) && answer::is_hex(id)
}
