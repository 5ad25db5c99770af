//! What a container runtime tells the pipeline.

use tw_model::Container;

/// One piece of news from a container runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeUpdate {
    /// A container is new or changed. `complete` is false on the first word about it, which carries only id,
    /// name and image (from the runtime's event); the whole follows milliseconds later.
    Container(Box<Container>),
    /// The runtime removed the container with this id. Events of its last moments may still be on their way.
    Gone(String),
    /// The answer to a request: this runtime has no container with this id.
    Unknown(String),
    /// The runtime cannot be reached, and why. Told once; retries go on behind the scenes.
    Unavailable(String),
    /// The runtime answers (first time, or again after [`RuntimeUpdate::Unavailable`]). All its containers
    /// follow as [`RuntimeUpdate::Container`].
    Available {
        /// The runtime's version, such as `28.2.2`.
        version: String,
    },
}
