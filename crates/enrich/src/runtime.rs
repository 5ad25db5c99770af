//! What a container runtime tells the pipeline.

use tw_model::Container;

/// Most bytes of a container's id: containerd takes 76, runc and Kubernetes no more than a file name.
const MAX_ID: usize = 255;

/// One piece of news from a container runtime, or from what it leaves on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeUpdate {
    /// A container is new or changed. `complete` is false on a first word about it, which carries only what is at hand
    /// (from the runtime's event, or from disk); the whole follows milliseconds later.
    Container(Box<Container>),
    /// The cgroup at this path belongs to the container with this id, and so do those below it.
    Path {
        /// Path in the unified hierarchy, from its root.
        path: String,
        /// Id of the container.
        id: String,
    },
    /// The answer to a question about a cgroup: it is that of a container whose path was told by now, or of none.
    Looked {
        /// Id of the cgroup.
        cgroup: u64,
    },
    /// The runtime removed the container with this id. Events of its last moments may still be on their way.
    Gone(String),
    /// The end of the answer to a request: this runtime has told all that it can of this id, which may be nothing.
    NoMore(String),
    /// Nothing is where the runtime would listen, and why it is thought so: it is not installed, or not started. Told
    /// once; retries go on behind the scenes.
    Absent(String),
    /// The runtime cannot be reached, and why. Told once; retries go on behind the scenes.
    Unavailable(String),
    /// The runtime answers (first time, or again after [`RuntimeUpdate::Unavailable`]). All its containers
    /// follow as [`RuntimeUpdate::Container`].
    Available {
        /// The runtime's version, such as `28.2.2`.
        version: String,
    },
}

/// Whether the text can be the id of a container: letters, digits and `_.+:-`, and no name of a folder's own.
pub fn is_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.+:-".contains(&byte);
    !text.is_empty() && text.len() <= MAX_ID && !text.starts_with('.') && text.bytes().all(allowed)
}
