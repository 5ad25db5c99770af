//! Why pods cannot be watched, in words for people: what is wrong, and what mends it.

use std::fmt;

use kube::runtime::watcher;
use tw_model::status::Problem;

use super::wire::{NoToken, TooLong};

/// Longest text of a server that is told.
const MAX_WORDS: usize = 400;

/// What kind of a trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// There is no usable kubeconfig or service account.
    Config,
    /// Nobody answers there.
    Unreachable,
    /// Who answers has no certificate that is trusted, or does not trust ours.
    Certificate,
    /// The server does not know who we are.
    Unauthorized,
    /// It does, and we may not.
    Forbidden,
    /// The server cannot just now, or will not.
    Refused,
    /// What it says makes no sense.
    Nonsense,
    /// What was known is too old to go on from: it is listed anew, which is no trouble.
    Expired,
}

impl Kind {
    /// For metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Unreachable => "unreachable",
            Self::Certificate => "certificate",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Refused => "refused",
            Self::Nonsense => "nonsense",
            Self::Expired => "expired",
        }
    }

    /// Whether it may well be over in a moment.
    pub(crate) fn may_pass(self) -> bool {
        matches!(self, Self::Unreachable | Self::Refused | Self::Unauthorized | Self::Expired)
    }
}

/// A trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) kind: Kind,
    /// Verb that was refused: `list`, `watch`.
    verb: &'static str,
    why: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, verb, why } = self;
        match kind {
            Kind::Config => write!(f, "the access to Kubernetes cannot be read: {why}"),
            Kind::Unreachable => write!(f, "the API of Kubernetes cannot be reached: {why}"),
            Kind::Certificate => write!(f, "the API of Kubernetes is not trusted, or does not trust us: {why}"),
            Kind::Unauthorized => write!(f, "the API of Kubernetes does not know us (401): {why}"),
            Kind::Forbidden => write!(f, "the API of Kubernetes does not let us {verb} pods (403): {why}"),
            Kind::Refused => write!(f, "the API of Kubernetes does not answer as it should: {why}"),
            Kind::Nonsense => write!(f, "the API of Kubernetes says what makes no sense: {why}"),
            Kind::Expired => write!(f, "what was known of pods is too old to go on from: {why}"),
        }
    }
}

impl Trouble {
    /// The access is no good.
    pub(super) fn config(why: &str) -> Self {
        Self { kind: Kind::Config, verb: "list", why: plain(why) }
    }

    /// A client could not be made.
    pub(super) fn setup(error: &kube::Error) -> Self {
        let why = chain(error);
        let kind = if why.contains("certificate") { Kind::Certificate } else { Kind::Config };
        Self { kind, verb: "list", why }
    }

    /// An answer took too long.
    pub(super) fn silent(seconds: u64) -> Self {
        Self { kind: Kind::Unreachable, verb: "list", why: format!("pods were not listed within {seconds} s") }
    }

    /// What a watcher met.
    pub(super) fn of(error: &watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error) => Self::of_request("list", error),
            watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
                Self::of_request("watch", error)
            }
            watcher::Error::WatchError(status) => Self::of_status("watch", status),
            watcher::Error::NoResourceVersion => {
                Self { kind: Kind::Nonsense, verb: "list", why: "an object without a version".into() }
            }
        }
    }

    /// What a request met.
    pub(super) fn of_request(verb: &'static str, error: &kube::Error) -> Self {
        if let kube::Error::Api(status) = error {
            return Self::of_status(verb, status);
        }
        let why = chain(error);
        let kind = match error {
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) | kube::Error::LinesCodecMaxLineLengthExceeded => {
                Kind::Nonsense
            }
            kube::Error::Auth(_) => Kind::Config,
            _ if holds::<NoToken>(error) => Kind::Config,
            _ if holds::<TooLong>(error) || why.contains("invalid HTTP") => Kind::Nonsense,
            _ if why.contains("certificate") => Kind::Certificate,
            _ => Kind::Unreachable,
        };
        Self { kind, verb, why }
    }

    fn of_status(verb: &'static str, status: &kube::core::Status) -> Self {
        let kind = match status.code {
            401 => Kind::Unauthorized,
            403 => Kind::Forbidden,
            410 => Kind::Expired,
            _ if status.reason == "Expired" => Kind::Expired,
            _ => Kind::Refused,
        };
        let words = if status.message.is_empty() { &status.reason } else { &status.message };
        Self { kind, verb, why: plain(&format!("{} {words}", status.code)) }
    }

    /// Whether the pods that are known are those that there are all the same.
    pub(super) fn is_harmless(&self) -> bool {
        self.kind == Kind::Expired && self.verb == "watch"
    }

    /// What a person is told.
    pub(crate) fn problem(&self) -> Problem {
        let remedy = match self.kind {
            Kind::Config => {
                "in a pod give it a service account; elsewhere set kubernetes.kubeconfig to a file that the manager's user \
                 can read, with a token, a tokenFile or a client certificate; or set kubernetes.enabled to off"
                    .to_owned()
            }
            Kind::Unreachable => {
                "look whether the server runs and can be reached from here; another port than the one that was configured at \
                 the start needs a restart of the service. It is tried again by itself"
                    .to_owned()
            }
            Kind::Certificate => {
                "name the authority that signed the server's certificate in the kubeconfig (certificate-authority), and look \
                 whether the clocks agree and our own certificate still holds"
                    .to_owned()
            }
            Kind::Unauthorized => {
                "renew the token or certificate that the kubeconfig or the service account has: it is read anew at each \
                 attempt"
                    .to_owned()
            }
            Kind::Forbidden => format!(
                "give its account the verb {} for the resource pods in a ClusterRole: deploy/kubernetes.yaml has all that is \
                 needed",
                self.verb
            ),
            Kind::Refused | Kind::Expired => "look at the log of the API server; it is tried again by itself".to_owned(),
            Kind::Nonsense => {
                "look whether the address in the kubeconfig is that of an API server of Kubernetes, and no proxy's".to_owned()
            }
        };
        Problem { code: format!("kubernetes-{}", self.kind.name()), failed: true, what: self.to_string(), remedy }
    }
}

/// Whether an error, or what led to it, is of this type.
fn holds<E: std::error::Error + 'static>(error: &(dyn std::error::Error + 'static)) -> bool {
    if error.is::<E>() {
        return true;
    }
    // An error of input and output hides what it was made of.
    if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        return holds::<E>(inner);
    }
    error.source().is_some_and(holds::<E>)
}

/// An error with what led to it, each reason once.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = error.source();
    }
    plain(&text)
}

/// A text from elsewhere, on one line and not too long.
pub(super) fn plain(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_WORDS).collect();
    clean.trim().to_owned()
}
